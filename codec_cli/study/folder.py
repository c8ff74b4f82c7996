"""The folder of a study's results: a summary in Markdown, tables as CSV, pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codec_cli.errors import OutputError
from codec_cli.files import write_atomic

__all__ = ["SUMMARY", "Column", "Folder"]

SUMMARY = "summary.md"
_MARK = "study.json"

Column = tuple[str, str, str]
"""Key of a value, heading, and how to format it (as after the colon in an f-string; empty for text)."""


class Folder:
    """Collects what the summary says and writes everything beside it.

    Args:
        path: The folder; made if missing.
        study: Name of the study. A folder that holds another one's results, or anything else, is refused.

    Raises:
        OutputError: The folder is not to be had.
    """

    def __init__(self, path: Path, study: str) -> None:
        self.path = path
        self._parts: list[str] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            strange = any(path.iterdir()) and not (path / _MARK).is_file()
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        if strange or self._study() not in (None, study):
            raise OutputError(f"{path}: holds something else than a study of {study}; choose a new folder")
        write_atomic(path / _MARK, (json.dumps({"study": study}) + "\n").encode(), force=True)

    def _study(self) -> str | None:
        try:
            return str(json.loads((self.path / _MARK).read_text("utf-8"))["study"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def runs(self) -> Path:
        """Where the runs lie."""
        return self.path / "runs"

    @property
    def cache(self) -> Path:
        """Where decoded patches lie."""
        return self.path / "cache"

    def say(self, *lines: str) -> None:
        """Adds a paragraph or a heading to the summary."""
        self._parts.append("\n".join(lines))

    def table(self, name: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes ``NAME.csv`` with full digits, and adds the table to the summary."""
        rows = list(rows)
        self.csv(name, [key for key, _, _ in columns], rows)
        self._parts.append(markdown(columns, rows))

    def csv(self, name: str, keys: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes ``NAME.csv`` only."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, keys, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / f"{name}.csv", stream.getvalue().encode(), force=True)

    def picture(self, name: str, drawn: Mapping[str, bytes], text: str) -> None:
        """Writes ``NAME`` with each suffix, and shows the PNG in the summary.

        Args:
            name: Without suffix.
            drawn: Files by suffix, from :mod:`codec_cli.study.pictures`.
            text: What is to be seen.
        """
        for suffix, data in drawn.items():
            write_atomic(self.path / f"{name}{suffix}", data, force=True)
        self._parts.append(f"![{text}]({name}.png)")

    def finish(self) -> Path:
        """Writes the summary and returns its path."""
        write_atomic(self.path / SUMMARY, ("\n\n".join(self._parts) + "\n").encode(), force=True)
        return self.path / SUMMARY


def markdown(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table; missing values are dashes."""
    lines = [
        "| " + " | ".join(heading for _, heading, _ in columns) + " |",
        "|" + "|".join("---:" if form else "---" for _, _, form in columns) + "|",
    ]
    for row in rows:
        cells = ["-" if row.get(key) is None else format(row[key], form) for key, _, form in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
