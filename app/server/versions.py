"""The versions that `LimitedProtocol` was tested with, as it relies on their internals."""

from importlib.metadata import version

TESTED = {"uvicorn": ((0, 53), (0, 54)), "httptools": ((0, 7), (0, 9))}
"""The first and last minor version of each package; the same as in pyproject.toml."""


def untested() -> str | None:
    """Return what to install instead of an untested version, None if all are tested."""
    for name, (first, last) in TESTED.items():
        major, minor = version(name).split(".")[:2]
        if not first <= (int(major), int(minor)) <= last:
            allowed = " to ".join(f"{major}.{minor}" for major, minor in (first, last))
            return f"{name} {version(name)} is installed, but tested are {allowed}; see requirements.txt"
    return None
