"""Versions of packages on whose internals `LimitedProtocol` relies."""

from importlib.metadata import version

TESTED = {"uvicorn": ((0, 53), (0, 54)), "httptools": ((0, 7), (0, 9))}
"""First and last tested minor version of each package, as in pyproject.toml."""


def untested_versions() -> dict[str, tuple[str, str]]:
    """Return the packages outside their tested range, with installed and tested versions."""
    found = {}
    for package, (first, last) in TESTED.items():
        installed = version(package)
        major, minor = installed.split(".")[:2]
        if not first <= (int(major), int(minor)) <= last:
            found[package] = (installed, "{}.{} to {}.{}".format(*first, *last))
    return found
