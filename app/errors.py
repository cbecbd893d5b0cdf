"""All errors of the service, with stable codes and statuses."""

import errno
import re
from collections.abc import Sequence
from typing import ClassVar, Self


class ConfigurationError(Exception):
    """An invalid setting prevents the service from starting."""

    def __init__(self, variable: str, problem: str, allowed: str) -> None:
        super().__init__(f"{variable} {problem}; {allowed}")


class ListenError(ConfigurationError):
    """The service can't listen on its address.

    `host_name` and `port_name` name the settings or options.
    """

    def __init__(
        self, host: str, port: int, error: Exception, *, host_name: str = "HOST", port_name: str = "PORT"
    ) -> None:
        number = error.errno if isinstance(error, OSError) else None
        # `socket.create_server` adds the address to the message.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while ")[0]
        is_about_port = number in {errno.EADDRINUSE, errno.EACCES}
        allowed = f"set {port_name}" if is_about_port else f"set {host_name} to an address of this machine"
        super().__init__(f"can't listen on {host}:{port}:", reason[:1].lower() + reason[1:], allowed)


class GatewayError(Exception):
    """Base of all errors that clients see (RFC 9457).

    `detail` is for people, `code` for programs. Code and title follow from the class name by default: `ImageNotFound`
    has the code `image_not_found` and the title "Image not found". A subclass without a status shares its base's code.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None
    """Seconds until a retry may succeed, if one can help."""

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None, title: str | None = None) -> None:
        super().__init_subclass__()
        if status is not None:
            words = re.findall("[A-Z][a-z]*", cls.__name__)
            cls.status = status
            cls.code = code or "_".join(words).lower()
            cls.title = title or " ".join(words).capitalize()

    def __init__(self, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if retry_after is not None:
            self.retry_after = retry_after


class MalformedRequest(GatewayError, status=400):
    """The request can't be parsed."""


class Unauthorized(GatewayError, status=401):
    """The request has no valid API key or browser token."""


class HostNotAllowed(GatewayError, status=403):
    """The `Host` header is not in `ALLOWED_HOSTS`."""


class OriginNotAllowed(GatewayError, status=403):
    """Web pages of this origin may not call the service."""


class Forbidden(GatewayError, status=403):
    """The route requires an API key, not a browser token."""


class TaskNotFound(GatewayError, status=404):
    """The task doesn't exist or belongs to another caller."""


class DeliveryNotFound(GatewayError, status=404, title="Webhook delivery not found"):
    """The webhook delivery doesn't exist or belongs to another caller."""


class ImageNotFound(GatewayError, status=404):
    """The image doesn't exist or was deleted with its task."""


class ImageUnavailable(GatewayError, status=404):
    """The service can't provide a copy of the image."""


class UploadNotFound(GatewayError, status=404):
    """The upload doesn't exist."""


class UnknownCallback(GatewayError, status=404):
    """The callback's token is invalid, or its task was deleted."""


class TaskMismatch(GatewayError, status=409):
    """The callback's upstream task differs from the recorded one."""


class NotCancelable(GatewayError, status=409):
    """Only a queued task can be canceled."""


class NotRetryable(GatewayError, status=409):
    """Only a failed or canceled task can be retried."""


class NotDeletable(GatewayError, status=409):
    """Only a finished task can be deleted."""


class IdempotencyInProgress(GatewayError, status=409, title="First request still in progress"):
    """The first request with this Idempotency-Key is not committed yet."""


class IdempotencyKeyReused(GatewayError, status=422, title="Idempotency-Key reused"):
    """The Idempotency-Key was used with a different body."""


class TaskGone(GatewayError, status=410, code="task_deleted", title="Task deleted"):
    """The task that the Idempotency-Key refers to was deleted."""


class UploadExpired(GatewayError, status=410):
    """The upload has expired."""


class RequestTimeout(GatewayError, status=408):
    """The request arrived too slowly."""


class UriTooLong(GatewayError, status=414, title="URI too long"):
    """Path and query are too long."""


class HeadersTooLarge(GatewayError, status=431):
    """There are too many headers, or they are too long."""


class BodyTooLarge(GatewayError, status=413):
    """The body exceeds the limit of its route."""


class UnsupportedMediaType(GatewayError, status=415):
    """The route doesn't support this `Content-Type`."""


class RangeNotSatisfiable(GatewayError, status=416):
    """The requested range is beyond the end (`size` bytes)."""

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail)
        self.size = size


class InvalidImage(GatewayError, status=422):
    """The upload is not an acceptable image."""


class PublicUrlRequired(GatewayError, status=422, title="Public URL required"):
    """Uploads need a public URL where the upstream fetches them."""


class UnreadableCallback(GatewayError, status=422):
    """The callback can't be parsed. The task is polled instead."""


class RateLimited(GatewayError, status=429):
    """The API key has reached `KEY_RATE_LIMIT`."""


class TokenExhausted(GatewayError, status=429):
    """The browser token has used up its tasks or uploads."""


class DailyBudgetExceeded(GatewayError, status=429):
    """The project has used up its tasks for the day."""


class DailyUploadsExceeded(GatewayError, status=429):
    """The project has used up its upload bytes for today."""


class TooManyOpenRequests(GatewayError, status=429):
    """The caller has too many streams and waiting requests open."""

    retry_after = 5


class ServiceUnavailable(GatewayError, status=503):
    """The database is unreachable or the service is stopping.

    The request may have taken effect.
    """

    retry_after = 2


class StorageUnavailable(ServiceUnavailable, status=503):
    """Image storage is unreachable or rejects our requests."""


class ImagePending(GatewayError, status=503):
    """The image has not been fetched yet. Fetching is retried."""


class TooManyStreams(GatewayError, status=503):
    """The process has too many streams and waiting requests open."""

    retry_after = 5


class TooManyConnections(GatewayError, status=503):
    """The process has reached its limit of open connections."""

    retry_after = 5


class SlowReader(GatewayError, status=503):
    """The client read events too slowly. Occurs only inside streams."""


class InvalidRequest(GatewayError, status=422):
    """Some fields or parameters are invalid.

    `errors` lists each with a message, the most useful first. `detail` repeats the first.
    """

    def __init__(self, errors: Sequence[dict[str, str]]) -> None:
        first, rest = errors[0], len(errors) - 1
        more = f" ({rest} more in errors)" if rest else ""
        super().__init__(f"{first['field']}: {first['message']}{more}")
        self.errors = errors

    @classmethod
    def field(cls, name: str, message: str) -> Self:
        """Return the error for a single field."""
        return cls([{"field": name, "message": message}])
