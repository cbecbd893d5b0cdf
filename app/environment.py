"""Environment variables, cleaned and completed from `.env`."""

import difflib
import io
import os
import re
from collections.abc import Collection
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from app.errors import ConfigurationError

ENV_FILE = Path(".env")
# Read by libraries: the storage client, the database driver, TLS, proxies, tracing.
_LIBRARIES = re.compile(r"(AWS|OTEL|PG|SSL_CERT)[A-Z0-9_]*|[A-Z]+_PROXY")
# Docker Compose reads the same file.
_COMPOSE = re.compile(r"(COMPOSE|DOCKER)_[A-Z_]+|POSTGRES_PASSWORD|PUBLISH")
# May be copied from a web page along with a value. Python's `strip` keeps them.
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"


def load_environment(settings: Collection[str]) -> None:
    """Clean environment variables in place and add those of `.env`.

    Only variables of `settings` and libraries are cleaned; empty ones are removed. The environment takes precedence
    over the file. Raises `ConfigurationError` if the file can't be read.
    """
    for name, value in list(os.environ.items()):
        if name.upper() in settings or _LIBRARIES.fullmatch(name.upper()):
            os.environ.pop(name)
            _set(name, value)
    given = {name.upper() for name in os.environ}
    for name, line in _read_file().items():
        if name.upper() not in given:
            _set(name, line or "")


def misspelled(settings: Collection[str]) -> dict[str, str]:
    """Return probably misspelled names, with the setting meant or "".

    In `.env` these are all unknown names, in the environment only names one edit away from a setting.
    """
    found = {}
    for name, value in _read_file().items():
        if value is None:
            continue  # without `=`, perhaps the second line of a secret
        if not (name.upper() in settings or _LIBRARIES.fullmatch(name.upper()) or _COMPOSE.fullmatch(name.upper())):
            found[name] = next(iter(difflib.get_close_matches(name.upper(), sorted(settings), 1)), "")
    for name in os.environ.keys() - {setting for setting in os.environ if setting.upper() in settings}:
        for setting in settings:
            if _is_one_edit(name.upper(), setting):
                found[name] = setting
    return found


def _set(name: str, value: str) -> None:
    previous = None
    while value != previous:
        previous, value = value, value.strip().strip(_INVISIBLE)
    if value:
        os.environ[name] = value


def _read_file() -> dict[str, str | None]:
    if ENV_FILE.is_dir():  # a virtual environment, or created by Docker in place of a missing file
        return {}
    try:
        text = ENV_FILE.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            ".env", f"can't be read ({error.strerror})", "let this user read it, or remove it"
        ) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without a byte order mark is valid UTF-8 with NULs
        raise ConfigurationError(".env", "is not UTF-8 text", "save it as UTF-8, not as UTF-16 or in another encoding")
    for line in parse_stream(io.StringIO(text)):
        if line.error:
            raise ConfigurationError(
                ".env", f"can't be read (line {line.original.line})", "allowed: lines of NAME=VALUE, and # comments"
            )
    return dotenv_values(stream=io.StringIO(text))


def _is_one_edit(one: str, other: str) -> bool:
    """Whether one letter was added, removed or replaced, or swapped."""
    short, long = sorted((one, other), key=len)
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    is_swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return short != long and (short[start + 1 :] == long[start + 1 :] or is_swapped)
