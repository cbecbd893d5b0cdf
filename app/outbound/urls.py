"""Checks user-supplied URLs without DNS lookups."""

import re

import httpx

from app.domain.destination import DestinationRules

_NAME = re.compile(rb"[A-Za-z0-9._-]{1,253}")


def problem_with(url: str, rules: DestinationRules) -> str | None:
    """Return what is wrong with a URL, or None."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "is not a valid URL"
    if parsed.userinfo:
        return "must not contain a user name or password"
    # Check the encoded form: decoding raises for some names that resolve, such as xn--ls8h.la.
    if b":" not in parsed.raw_host and not _NAME.fullmatch(parsed.raw_host):
        return "has no valid host name"
    if rules.forbids_host(parsed.raw_host.decode("ascii")):
        return "points to a private address that is not in ALLOW_NETWORKS"
    return None
