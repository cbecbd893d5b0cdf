"""Keeping our own key out of what the upstream says: vendors have been seen to repeat it in their messages."""

from msgspec.structs import replace

from app.domain.verdict import Failed, Report, TaskError, Unreadable

_BLOT = "***"
# A shorter one is a stand-in, such as the sandbox's "sandbox", and part of words that people are to read.
_LONG = 8
MAX_TEXT = 2000
"""How much of the vendor's words is kept; cut after blotting out, so that no half of a secret remains."""


class Scrubber:
    """Blots out one secret; one of less than 8 characters stands for nothing to hide."""

    def __init__(self, secret: str) -> None:
        self._secret = secret if len(secret) >= _LONG else ""
        self._encoded = self._secret.encode()

    def text(self, text: str) -> str:
        """Blot it out of a text, and cut that to a bound."""
        return (text.replace(self._secret, _BLOT) if self._secret else text)[:MAX_TEXT]

    def raw(self, body: bytes) -> bytes:
        """Blot it out of a body as it arrived."""
        return body.replace(self._encoded, _BLOT.encode()) if self._encoded else body

    def error(self, error: TaskError) -> TaskError:
        """Blot it out of the vendor's words."""
        return replace(error, message=self.text(error.message))

    def report(self, report: Report) -> Report:
        """Blot it out of the words of a report."""
        match report:
            case Failed():
                return replace(report, error=self.error(report.error))
            case Unreadable():
                return replace(report, reason=self.text(report.reason))
            case _:
                return report
