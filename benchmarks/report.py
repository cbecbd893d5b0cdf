"""Markdown tables, and a description of the machine."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.databases import sqlite_version

_PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "sqlalchemy", "asyncpg", "httpx")


@dataclass(slots=True)
class Table:
    """A table; any `failures` invalidate its numbers."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Format the table as aligned Markdown."""
        cells = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = [_line(row, widths) for row in cells]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        notes = [*self.notes, *(f"FAILED: {failure}" for failure in self.failures)]
        return "\n".join([f"### {self.title}", "", lines[0], rule, *lines[1:], "", *notes])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def spread(numbers: Sequence[float], digits: int = 2) -> str:
    """Format the median with the minimum and maximum."""
    middle = statistics.median(numbers)
    if len(numbers) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({min(numbers):,.{digits}f}-{max(numbers):,.{digits}f})"


def milliseconds(seconds: Sequence[float], digits: int = 1) -> str:
    """Format the median of durations in milliseconds."""
    return f"{statistics.median(seconds) * 1000:,.{digits}f}"


def mebibytes(count: float) -> str:
    """Format bytes in MiB."""
    return f"{count / 2**20:,.0f}"


def machine(generator: str) -> str:
    """Describe the machine and its software as a Markdown list."""
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return "\n".join(
        [
            f"- {os.cpu_count()} cores, {_cpu_model()}, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}",
            f"- Python {platform.python_version()}, SQLite {sqlite_version()}, {packages}",
            f"- load by {generator}, on the same machine; load average before the run {os.getloadavg()[0]:.1f}",
        ]
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
