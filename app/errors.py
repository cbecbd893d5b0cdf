"""Every error that the service answers with or stops for: one tree, each with its stable code and HTTP status."""

from typing import ClassVar


class ConfigurationError(Exception):
    """A setting that stops the start: which variable, what is wrong with it, what is allowed."""

    def __init__(self, variable: str, problem: str, allowed: str) -> None:
        super().__init__(f"{variable} {problem}; {allowed}")


class GatewayError(Exception):
    """Base of all errors that clients see (RFC 9457). `detail` is for people, `code` for programs."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after: int | None = None
    """Seconds after which the caller may try again, if that makes sense."""

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        if retry_after is not None:
            self.retry_after = retry_after


class MalformedRequest(GatewayError):
    """The request can't be parsed at all."""

    code, status, title = "malformed_request", 400, "Malformed request"


class Unauthorized(GatewayError):
    """No valid API key or browser token was given."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class HostNotAllowed(GatewayError):
    """The `Host` header names a host that this service does not answer to."""

    code, status, title = "host_not_allowed", 403, "Host not allowed"


class OriginNotAllowed(GatewayError):
    """A web page of another origin called an open service."""

    code, status, title = "origin_not_allowed", 403, "Origin not allowed"


class Forbidden(GatewayError):
    """A browser token was used for what only an API key may do."""

    code, status, title = "forbidden", 403, "Forbidden"


class TaskNotFound(GatewayError):
    """There is no such task, or not for this caller."""

    code, status, title = "task_not_found", 404, "Task not found"


class DeliveryNotFound(GatewayError):
    """There is no such webhook delivery, or not for this caller."""

    code, status, title = "delivery_not_found", 404, "Webhook delivery not found"


class ImageNotFound(GatewayError):
    """There is no such image; it may have been deleted with its task."""

    code, status, title = "image_not_found", 404, "Image not found"


class ImageUnavailable(GatewayError):
    """There is no copy of the image, and there will be none."""

    code, status, title = "image_unavailable", 404, "Image unavailable"


class UploadNotFound(GatewayError):
    """There is no such upload."""

    code, status, title = "upload_not_found", 404, "Upload not found"


class UnknownCallback(GatewayError):
    """The callback's token is not one of ours, or its task is gone."""

    code, status, title = "unknown_callback", 404, "Unknown callback"


class TaskMismatch(GatewayError):
    """A callback named another upstream task than the one recorded."""

    code, status, title = "task_mismatch", 409, "Task mismatch"


class NotCancelable(GatewayError):
    """Only a queued task can be canceled."""

    code, status, title = "not_cancelable", 409, "Not cancelable"


class NotRetryable(GatewayError):
    """Only a failed or canceled task can be retried."""

    code, status, title = "not_retryable", 409, "Not retryable"


class NotDeletable(GatewayError):
    """A task that has not ended can't be deleted."""

    code, status, title = "not_deletable", 409, "Not deletable"


class IdempotencyInProgress(GatewayError):
    """The first request with this Idempotency-Key is not committed yet."""

    code, status, title = "idempotency_in_progress", 409, "First request still in progress"


class IdempotencyKeyReused(GatewayError):
    """The Idempotency-Key was used with another body."""

    code, status, title = "idempotency_key_reused", 422, "Idempotency-Key reused"


class TaskGone(GatewayError):
    """The task that an Idempotency-Key stands for was deleted."""

    code, status, title = "task_deleted", 410, "Task deleted"


class UploadExpired(GatewayError):
    """The upload was there, but its time is over."""

    code, status, title = "upload_expired", 410, "Upload expired"


class RequestTimeout(GatewayError):
    """The request arrived too slowly; what came of it was dropped."""

    code, status, title = "request_timeout", 408, "Request timeout"


class UriTooLong(GatewayError):
    """Path and query are longer than any that means something here."""

    code, status, title = "uri_too_long", 414, "URI too long"


class HeadersTooLarge(GatewayError):
    """There are more headers, or longer ones, than are read."""

    code, status, title = "headers_too_large", 431, "Headers too large"


class BodyTooLarge(GatewayError):
    """The body is over the limit of its route."""

    code, status, title = "body_too_large", 413, "Body too large"


class UnsupportedMediaType(GatewayError):
    """The body is not declared as JSON."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class RangeNotSatisfiable(GatewayError):
    """A part of a file was asked for that lies beyond its end; `size` is the file's, in bytes."""

    code, status, title = "range_not_satisfiable", 416, "Range not satisfiable"

    def __init__(self, detail: str, *, size: int) -> None:
        super().__init__(detail)
        self.size = size


class InvalidImage(GatewayError):
    """What was uploaded is no picture that is accepted."""

    code, status, title = "invalid_image", 422, "Invalid image"


class PublicUrlRequired(GatewayError):
    """The upstream could not fetch an upload, as this service has no public address."""

    code, status, title = "public_url_required", 422, "Public URL required"


class UnreadableCallback(GatewayError):
    """A callback states nothing that can be acted on; it is kept, and the upstream is asked."""

    code, status, title = "unreadable_callback", 422, "Unreadable callback"


class RateLimited(GatewayError):
    """The API key has brought as many tasks as `KEY_RATE_LIMIT` allows."""

    code, status, title = "rate_limited", 429, "Rate limited"


class TokenExhausted(GatewayError):
    """The browser token has brought as many tasks as it may."""

    code, status, title = "token_exhausted", 429, "Token exhausted"


class DailyBudgetExceeded(GatewayError):
    """The project has made as many tasks as it may in a day."""

    code, status, title = "daily_budget_exceeded", 429, "Daily budget exceeded"


class ServiceUnavailable(GatewayError):
    """The database can't be reached or the service is stopping; nothing of this request was kept for sure."""

    code, status, title = "service_unavailable", 503, "Service unavailable"
    retry_after = 2


class StorageUnavailable(ServiceUnavailable):
    """The store of image bytes can't be reached or refuses us; the same request may go through later."""

    code, status, title = "storage_unavailable", 503, "Storage unavailable"


class ImagePending(GatewayError):
    """The image could not be fetched from its source yet; it is tried again."""

    code, status, title = "image_pending", 503, "Image pending"


class TooManyStreams(GatewayError):
    """As many streams are open in this process as may be."""

    code, status, title = "too_many_streams", 503, "Too many streams"
    retry_after = 5


class TooManyConnections(GatewayError):
    """As many connections are open in this process as may be."""

    code, status, title = "too_many_connections", 503, "Too many connections"
    retry_after = 5


class SlowReader(GatewayError):
    """A stream was cut because its client took events more slowly than they came; only ever told inside a stream."""

    code, status, title = "slow_reader", 503, "Slow reader"


class InvalidRequest(GatewayError):
    """Well-formed, but with fields that are wrong; `errors` names each with what is wrong."""

    code, status, title = "invalid_request", 422, "Invalid request"

    def __init__(self, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(detail)
        self.errors = errors
