"""Error codes and statuses are stable parts of the API."""

from app import errors
from app.errors import GatewayError
from tests.support.servers.served import Served

ERRORS = {
    ("internal_error", 500, "Internal error"),
    ("malformed_request", 400, "Malformed request"),
    ("unauthorized", 401, "Unauthorized"),
    ("host_not_allowed", 403, "Host not allowed"),
    ("origin_not_allowed", 403, "Origin not allowed"),
    ("forbidden", 403, "Forbidden"),
    ("task_not_found", 404, "Task not found"),
    ("delivery_not_found", 404, "Webhook delivery not found"),
    ("image_not_found", 404, "Image not found"),
    ("image_unavailable", 404, "Image unavailable"),
    ("upload_not_found", 404, "Upload not found"),
    ("unknown_callback", 404, "Unknown callback"),
    ("task_mismatch", 409, "Task mismatch"),
    ("not_cancelable", 409, "Not cancelable"),
    ("not_retryable", 409, "Not retryable"),
    ("not_deletable", 409, "Not deletable"),
    ("idempotency_in_progress", 409, "First request still in progress"),
    ("idempotency_key_reused", 422, "Idempotency-Key reused"),
    ("task_deleted", 410, "Task deleted"),
    ("upload_expired", 410, "Upload expired"),
    ("request_timeout", 408, "Request timeout"),
    ("uri_too_long", 414, "URI too long"),
    ("headers_too_large", 431, "Headers too large"),
    ("body_too_large", 413, "Body too large"),
    ("unsupported_media_type", 415, "Unsupported media type"),
    ("range_not_satisfiable", 416, "Range not satisfiable"),
    ("invalid_image", 422, "Invalid image"),
    ("public_url_required", 422, "Public URL required"),
    ("unreadable_callback", 422, "Unreadable callback"),
    ("rate_limited", 429, "Rate limited"),
    ("token_exhausted", 429, "Token exhausted"),
    ("daily_budget_exceeded", 429, "Daily budget exceeded"),
    ("service_unavailable", 503, "Service unavailable"),
    ("storage_unavailable", 503, "Storage unavailable"),
    ("image_pending", 503, "Image pending"),
    ("too_many_open_requests", 429, "Too many open requests"),
    ("daily_uploads_exceeded", 429, "Daily uploads exceeded"),
    ("too_many_streams", 503, "Too many streams"),
    ("too_many_connections", 503, "Too many connections"),
    ("slow_reader", 503, "Slow reader"),
    ("invalid_request", 422, "Invalid request"),
}


def test_codes_statuses_and_titles_are_stable() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    assert {(kind.code, kind.status, kind.title) for kind in classes} == ERRORS


def test_the_type_of_an_error_leads_to_its_explanation(on_sqlite: Served) -> None:
    problem = on_sqlite.client.get("/v1/tasks/task_0").json()
    assert problem["type"] == "/docs/errors#task_not_found"
    page = on_sqlite.client.get(problem["type"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for code, _, _ in ERRORS:
        assert f'<h3 id="{code}">' in page.text
