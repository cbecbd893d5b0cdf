"""Tested versions of packages with internals that `LimitedProtocol` uses."""

from importlib.metadata import version

TESTED = {"uvicorn": ((0, 53), (0, 54)), "httptools": ((0, 7), (0, 9))}
"""First and last tested minor version of each package, as in pyproject.toml."""


def untested_versions() -> dict[str, tuple[str, str]]:
    """Map packages outside the tested range to (installed, tested) versions."""
    found = {}
    for package, (first, last) in TESTED.items():
        installed = version(package)
        major, minor = installed.split(".")[:2]
        if not first <= (int(major), int(minor)) <= last:
            found[package] = (installed, "{}.{} to {}.{}".format(*first, *last))
    return found
