"""Removes our own key from the upstream's messages."""

from msgspec.structs import replace

from app.domain.verdict import Failed, Report, TaskError, Unreadable

_MASK = "***"
_CHARSETS = ("utf-8", "utf-16-le", "utf-16-be")
# A shorter key is a placeholder like "sandbox", which may occur in ordinary text.
_MIN_SECRET_CHARACTERS = 8
# Text is truncated after masking, so that no part of a secret remains.
_MAX_TEXT_CHARACTERS = 2000


class Scrubber:
    """Masks one secret of at least 8 characters.

    Vendors may echo our key.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret if len(secret) >= _MIN_SECRET_CHARACTERS else ""

    def text(self, text: str) -> str:
        """Mask the secret in a string and truncate the result."""
        return (text.replace(self._secret, _MASK) if self._secret else text)[:_MAX_TEXT_CHARACTERS]

    def raw(self, body: bytes) -> bytes:
        """Mask the secret in a raw body."""
        for charset in _CHARSETS if self._secret else ():
            body = body.replace(self._secret.encode(charset), _MASK.encode(charset))
        return body

    def error(self, error: TaskError) -> TaskError:
        """Mask the secret in an error's message."""
        return replace(error, message=self.text(error.message))

    def report(self, report: Report) -> Report:
        """Mask the secret in a report."""
        match report:
            case Failed():
                return replace(report, error=self.error(report.error))
            case Unreadable():
                return replace(report, reason=self.text(report.reason))
            case _:
                return report
