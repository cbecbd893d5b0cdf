"""Suggests fields and parameters for misspelled names."""

import difflib
from collections.abc import Collection, Mapping
from types import MappingProxyType

_MIN_SIMILARITY = 0.75
_NONE: Mapping[str, str] = MappingProxyType({})


def suggestion(name: str, known: Collection[str], synonyms: Mapping[str, str] = _NONE) -> str | None:
    """Return the known name that was probably meant.

    `synonyms` maps other APIs' names to known ones. Case and separators don't matter.
    """
    meant = {_plain(one): one for one in known} | {_plain(one): ours for one, ours in synonyms.items()}
    closest = difflib.get_close_matches(_plain(name), meant, n=1, cutoff=_MIN_SIMILARITY)
    return meant[closest[0]] if closest else None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()
