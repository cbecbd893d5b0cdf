"""Keeping secrets out of what is written down."""

import json
import re
from collections.abc import Iterable

# What stands behind these, in an address or anywhere, lets its bearer in: API keys and browser tokens are the last two.
_BEARER_MARKS = ("/callbacks/nanobanana/", "access_token=", "nbg_", "nbt_")
_BEARERS = re.compile(rf"({'|'.join(_BEARER_MARKS)})[^/?&\s\"']+")
# Blotting out a shorter one would make the log unreadable and tell what it is.
_SHORTEST_SECRET = 6
_SECRET_NAMES = re.compile(r"authorization|api_key|secret|password|token", re.IGNORECASE)
_BLOT = "***"
# Of fields that were looked at once; names come from the code, so there are never so many.
_MOST_NAMES = 1_000


class Redactor:
    """Blots out known secrets, bearer parts of addresses, and fields named like secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # As they are and as renderers spell them. The longest first: one may be part of another.
        spelled = {form for s in secrets if len(s) >= _SHORTEST_SECRET for form in _spellings(s)}
        self._known = sorted(spelled, key=len, reverse=True)
        self._harmless: set[str] = set()

    def hide_named(self, fields: dict[str, object]) -> None:
        """Blot out the values of fields named like secrets."""
        if not self._harmless.issuperset(fields):
            for name in fields:
                if _SECRET_NAMES.search(name):
                    fields[name] = _BLOT
                elif len(self._harmless) < _MOST_NAMES:
                    self._harmless.add(name)

    def clean(self, text: str) -> str:
        """Blot out secrets in a text, be it one line or many."""
        # A look for plain parts costs far less than a pattern, and hardly any line has one.
        if any(mark in text for mark in _BEARER_MARKS):
            text = _BEARERS.sub(rf"\1{_BLOT}", text)
        for secret in self._known:
            text = text.replace(secret, _BLOT)
        return text


def _spellings(secret: str) -> set[str]:
    """Return a secret as it is and as it stands inside of a JSON string, of a representation, and of one in the other."""
    plain = {secret, repr(secret)[1:-1]}
    return plain | {json.dumps(text, ensure_ascii=False)[1:-1] for text in plain} | {repr(text)[1:-1] for text in plain}
