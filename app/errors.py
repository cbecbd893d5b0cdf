"""Every error that the service answers with or stops for: one tree, each with its stable code and HTTP status."""

import re
from typing import ClassVar


class ConfigurationError(Exception):
    """A setting that stops the start: which variable, what is wrong with it, what is allowed."""

    def __init__(self, variable: str, problem: str, allowed: str) -> None:
        super().__init__(f"{variable} {problem}; {allowed}")


class GatewayError(Exception):
    """Base of all errors that clients see (RFC 9457). `detail` is for people, `code` for programs.

    A subclass with a status is an error of its own: `ImageNotFound` has the code `image_not_found` and the title "Image
    not found" unless it states others. One without is a special case of its base.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None
    """Seconds after which the caller may try again, if that makes sense."""

    def __init_subclass__(cls, *, status: int | None = None, code: str | None = None, title: str | None = None) -> None:
        super().__init_subclass__()
        if status is not None:
            words = re.findall("[A-Z][a-z]*", cls.__name__)
            cls.status = status
            cls.code = code or "_".join(words).lower()
            cls.title = title or " ".join(words).capitalize()

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        if retry_after is not None:
            self.retry_after = retry_after


class MalformedRequest(GatewayError, status=400):
    """The request can't be parsed at all."""


class Unauthorized(GatewayError, status=401):
    """No valid API key or browser token was given."""


class HostNotAllowed(GatewayError, status=403):
    """The `Host` header names a host that this service does not answer to."""


class OriginNotAllowed(GatewayError, status=403):
    """A web page of another origin called an open service."""


class Forbidden(GatewayError, status=403):
    """A browser token was used for what only an API key may do."""


class TaskNotFound(GatewayError, status=404):
    """There is no such task, or not for this caller."""


class DeliveryNotFound(GatewayError, status=404, title="Webhook delivery not found"):
    """There is no such webhook delivery, or not for this caller."""


class ImageNotFound(GatewayError, status=404):
    """There is no such image; it may have been deleted with its task."""


class ImageUnavailable(GatewayError, status=404):
    """There is no copy of the image, and there will be none."""


class UploadNotFound(GatewayError, status=404):
    """There is no such upload."""


class UnknownCallback(GatewayError, status=404):
    """The callback's token is not one of ours, or its task is gone."""


class TaskMismatch(GatewayError, status=409):
    """A callback named another upstream task than the one recorded."""


class NotCancelable(GatewayError, status=409):
    """Only a queued task can be canceled."""


class NotRetryable(GatewayError, status=409):
    """Only a failed or canceled task can be retried."""


class NotDeletable(GatewayError, status=409):
    """A task that has not ended can't be deleted."""


class IdempotencyInProgress(GatewayError, status=409, title="First request still in progress"):
    """The first request with this Idempotency-Key is not committed yet."""


class IdempotencyKeyReused(GatewayError, status=422, title="Idempotency-Key reused"):
    """The Idempotency-Key was used with another body."""


class TaskGone(GatewayError, status=410, code="task_deleted", title="Task deleted"):
    """The task that an Idempotency-Key stands for was deleted."""


class UploadExpired(GatewayError, status=410):
    """The upload was there, but its time is over."""


class RequestTimeout(GatewayError, status=408):
    """The request arrived too slowly; what came of it was dropped."""


class UriTooLong(GatewayError, status=414, title="URI too long"):
    """Path and query are longer than any that means something here."""


class HeadersTooLarge(GatewayError, status=431):
    """There are more headers, or longer ones, than are read."""


class BodyTooLarge(GatewayError, status=413):
    """The body is over the limit of its route."""


class UnsupportedMediaType(GatewayError, status=415):
    """The body is not declared as JSON."""


class RangeNotSatisfiable(GatewayError, status=416):
    """A part of a file was asked for that lies beyond its end; `size` is the file's, in bytes."""

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail)
        self.size = size


class InvalidImage(GatewayError, status=422):
    """What was uploaded is no picture that is accepted."""


class PublicUrlRequired(GatewayError, status=422, title="Public URL required"):
    """The upstream could not fetch an upload, as this service has no public address."""


class UnreadableCallback(GatewayError, status=422):
    """A callback states nothing that can be acted on; it is kept, and the upstream is asked."""


class RateLimited(GatewayError, status=429):
    """The API key has brought as many tasks as `KEY_RATE_LIMIT` allows."""


class TokenExhausted(GatewayError, status=429):
    """The browser token has brought as many tasks as it may."""


class DailyBudgetExceeded(GatewayError, status=429):
    """The project has made as many tasks as it may in a day."""


class ServiceUnavailable(GatewayError, status=503):
    """The database can't be reached or the service is stopping; nothing of this request was kept for sure."""

    retry_after = 2


class StorageUnavailable(ServiceUnavailable, status=503):
    """The store of image bytes can't be reached or refuses us; the same request may go through later."""


class ImagePending(GatewayError, status=503):
    """The image could not be fetched from its source yet; it is tried again."""


class TooManyStreams(GatewayError, status=503):
    """As many streams are open in this process as may be."""

    retry_after = 5


class TooManyConnections(GatewayError, status=503):
    """As many connections are open in this process as may be."""

    retry_after = 5


class SlowReader(GatewayError, status=503):
    """A stream was cut because its client took events more slowly than they came; only ever told inside a stream."""


class InvalidRequest(GatewayError, status=422):
    """Well-formed, but with fields that are wrong; `errors` names each with what is wrong."""

    def __init__(self, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(detail)
        self.errors = errors
