"""Files in and out: spooled and not held in memory, and harmless to spreadsheets."""

import csv
import hashlib
import io
import json
import re
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from loyalty.api.parsing import read_json
from loyalty.api.problems import BodyTooLarge, InvalidRequest

BLOCK = 64 * 1024
LINES_AT_ONCE = 500
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Spooled:
    """A file that was sent, in a temporary one that goes with this object."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115  closed, and so deleted, with this object
        weakref.finalize(self, self._file.close)
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def path(self) -> Path:
        return Path(self._file.name)

    def write(self, block: bytes) -> None:
        self.size += len(block)
        if self.size > settings.LOYALTY_IMPORT_MAX_BYTES:
            raise BodyTooLarge(f"A file has at most {settings.LOYALTY_IMPORT_MAX_BYTES:,} bytes.")
        self._sha256.update(block)
        self._file.write(block)

    def done(self) -> "Spooled":
        self._file.flush()
        return self

    def __str__(self) -> str:
        """What tells it from another file, for the fingerprint of a request."""
        return self._sha256.hexdigest()


class FileField(serializers.Field[Any, Any, Any, Any]):
    """What a parser of this module made of the body."""

    def to_internal_value(self, data: Any) -> Any:
        return data


class CsvRenderer(JSONRenderer):
    """For clients that accept a CSV file and nothing else. Refusals are JSON all the same."""

    media_type = "text/csv"
    format = "csv"


class CsvParser(BaseParser):
    media_type = "text/csv"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Spooled]:
        spooled = Spooled()
        while block := stream.read(BLOCK):
            spooled.write(block)
        return {"file": spooled.done()}


class JsonLinesParser(BaseParser):
    """An array of objects with the names of columns, written down as the CSV file that it stands for."""

    media_type = "application/json"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Spooled]:
        lines = read_json(stream, limit=settings.LOYALTY_IMPORT_MAX_BYTES)
        if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            raise InvalidRequest(["Send an array of objects, one for each card."])
        names = list(dict.fromkeys(name for line in lines for name in line))
        if any(isinstance(value, (dict, list, bool)) for line in lines for value in line.values()):
            raise InvalidRequest(["The values of a card are strings, numbers or null."])
        spooled = Spooled()
        for line in chain([names], ([_cell(line.get(name)) for name in names] for line in lines)):
            try:
                spooled.write(_csv_line(line).encode())
            except UnicodeEncodeError:
                raise InvalidRequest(["A text in the file holds half of a character, which is no text."]) from None
        return {"file": spooled.done()}


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def streamed(rows: Iterator[Mapping[str, Any]], columns: list[str], *, form: str, name: str) -> StreamingHttpResponse:
    """Rows as a file that is sent while they are read."""
    lines, media_type = (_as_csv(rows, columns), "text/csv") if form == "csv" else (_as_json(rows), "application/json")
    return StreamingHttpResponse(
        _in_blocks(lines),
        content_type=f"{media_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.{form}"'},
    )


def _in_blocks(lines: Iterator[str]) -> Iterator[bytes]:
    while block := "".join(islice(lines, LINES_AT_ONCE)):
        yield block.encode()


def _as_csv(rows: Iterator[Mapping[str, Any]], columns: list[str]) -> Iterator[str]:
    yield _csv_line(columns)
    for row in rows:
        yield _csv_line(harmless(row[column]) for column in columns)


def harmless(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula. Numbers, with those of phones, and days are none."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULAS) and not NUMBER.fullmatch(value) else value
    return _plain(value)


def _as_json(rows: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    separator = "[\n"
    for row in rows:
        yield separator + json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False)
        separator = ",\n"
    yield "\n]\n" if separator == ",\n" else "[]\n"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (date, datetime)) else value
