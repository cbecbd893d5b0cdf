"""Statements that stand in files as SQL: those of the hot paths, which read and write many rows at once.

Many rows travel as one JSON document, which the database takes apart or puts together. A statement for each row costs
40 % more CPU per result on SQLite and 60 % on PostgreSQL (2026-11). Each file begins with a line that describes it.
"""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, TextClause, text

_FOLDER = Path(__file__).parent


def load(name: str) -> Callable[[Connection], TextClause]:
    """Load a statement; the result picks the variant for a connection's dialect."""
    variants = {file.suffixes[0][1:]: text(file.read_text()) for file in _FOLDER.glob(f"{name}.*.sql")}
    return lambda connection: variants[connection.dialect.name]
