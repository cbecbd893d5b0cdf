"""Stored words, such as states, codes and kinds."""

from enum import StrEnum
from typing import Any, Self


class Word(StrEnum):
    """A stored word, possibly written by a newer version.

    An unknown word is kept as text. It can be read and shown, and equals none of the known words. Clients may only send
    known words.
    """

    @property
    def is_known(self) -> bool:
        """Whether this version knows the word."""
        return self._name_ in type(self).__members__

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let Pydantic accept only known words."""
        check = {"type": "no-info", "function": cls._known}
        return {"type": "function-before", "function": check, "schema": handler(source)}

    @classmethod
    def _known(cls, value: object) -> object:
        known = [word.value for word in cls]
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value
