"""What is wrong with a URL that a user supplied, as far as that shows without a lookup."""

import re

import httpx

from app.domain.destination import DestinationRules

_NAME = re.compile(rb"[A-Za-z0-9._-]{1,253}")


def problem_with(url: str, rules: DestinationRules) -> str | None:
    """Return what is wrong with a URL; None if nothing is."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "is not a URL that can be called"
    if parsed.userinfo:
        return "must not contain a user name or password; what we send is signed"
    # As it is sent: its decoded form raises for names that resolve all the same, such as xn--ls8h.la.
    if b":" not in parsed.raw_host and not _NAME.fullmatch(parsed.raw_host):
        return "has no host name that can be looked up"
    if rules.forbids_host(parsed.raw_host.decode("ascii")):
        return "leads to an address that is not on the public internet, and ALLOW_NETWORKS does not name it"
    return None
