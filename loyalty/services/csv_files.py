"""CSV files as records, read strictly: what is wrong is named by line, and a record never takes much memory."""

import codecs
import csv
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from loyalty.errors import ImportRefused, InvalidInput

Progress = Callable[[int, int], None]
PROBLEMS_KEPT = 1000
# Not more than a field that the csv module reads. A quote that is never closed would swallow the rest of the file.
LONGEST_RECORD_BYTES = 131_072
MISREADINGS = {
    "unexpected end of data": "a quoted value is never closed",
    "expected after": "something follows the quote that closes a value",
    "new-line character": "a carriage return stands without a line feed; lines end in LF or in CR and LF",
}


class Problem(NamedTuple):
    """What is wrong in a line, in words that follow the column's name; no column: the line itself."""

    line: int
    column: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in self._asdict().items() if value != ""}


@dataclass
class Problems:
    """The problems of a file: all are counted, the first 1,000 are kept."""

    count: int = 0
    first: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.first) < PROBLEMS_KEPT:
            self.first.append(problem)

    def as_json(self) -> list[dict[str, Any]]:
        return [problem.as_json() for problem in self.first]

    def refusal(self, sentence: str) -> ImportRefused:
        return ImportRefused(sentence, problems=self.as_json(), problem_count=self.count)


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        InvalidInput: it is missing, not a file, or closed to us.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file open for reading bytes.

    Raises:
        InvalidInput: it is missing, not a file, or closed to us.
    """
    try:
        # Looked at first: opening a pipe would wait for its writer.
        is_file = S_ISREG(path.stat().st_mode)
        file = path.open("rb") if is_file else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is not the name of a file"
        raise InvalidInput(f"{shown(path)} cannot be read: {reason}.", field="file") from None
    if file is None:
        raise InvalidInput(f"{shown(path)} is not a file.", field="file")
    with file:
        yield file


def shown(path: Path) -> str:
    """A path as people may read it; names may hold bytes that are no text."""
    return str(path).encode("utf-8", "replace").decode()


class Record(NamedTuple):
    """One record and the line on which it begins. `flaw` says what of it was unreadable."""

    line: int
    fields: list[str]
    flaw: str


class CsvFile:
    """A CSV file while it is read: the header first, then the records."""

    def __init__(self, file: BufferedReader, progress: Progress) -> None:
        self._file, self._progress = file, progress
        self._bytes_total = os.fstat(file.fileno()).st_size
        self._bytes_read = 0
        self._digest = hashlib.sha256()
        self._line = 0
        self._begins_on = 1
        self._record_bytes = 0
        self._flaw = ""
        self._delimiter = ","
        self._lines = self._read_lines()

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._digest.hexdigest()

    def report(self) -> None:
        self._progress(self._bytes_read, self._bytes_total)

    def header(self) -> Record:
        """The names in the first line that is not blank. They tell what separates values: comma or semicolon.

        Raises:
            ImportRefused: there is no such line, or it cannot be read.
        """
        text = next((line for line in self._lines if line.strip()), None)
        if text is None:
            raise self._refusal("the file is empty")
        self._begins_on = self._line
        if self._flaw:
            raise self._refusal(self._flaw)
        self._delimiter = ";" if text.count(";") > text.count(",") else ","
        names = self._parsed(csv.reader([text], delimiter=self._delimiter, strict=True)) or []
        return Record(self._line, [name.strip() for name in names], "")

    def records(self) -> Iterator[Record]:
        """The records after the header, blank lines left out.

        Raises:
            ImportRefused: the quoting is wrong. Nobody can say where the next record begins, so reading ends.
        """
        reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        while True:
            self._flaw, self._record_bytes, self._begins_on = "", 0, self._line + 1
            fields = self._parsed(reader)
            if fields is None:
                return
            if fields:
                yield Record(self._begins_on, fields, self._flaw)

    def _parsed(self, reader: Iterator[list[str]]) -> list[str] | None:
        try:
            return next(reader, None)
        except csv.Error as error:
            known = (reason for text, reason in MISREADINGS.items() if text in str(error))
            raise self._refusal(next(known, str(error))) from None

    def _read_lines(self) -> Iterator[str]:
        while raw := self._file.readline(LONGEST_RECORD_BYTES + 1):
            self._line += 1
            self._bytes_read += len(raw)
            self._record_bytes += len(raw)
            if self._record_bytes > LONGEST_RECORD_BYTES:
                raise self._refusal(f"it is longer than {LONGEST_RECORD_BYTES:,} bytes; is a quote never closed?")
            self._digest.update(raw)
            yield self._text(raw)

    def _text(self, raw: bytes) -> str:
        if self._line == 1:
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise self._refusal("the file is UTF-16; save it as UTF-8")
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if 0 in raw:
            self._flaw = self._flaw or f"byte {raw.index(0) + 1} of line {self._line} is NUL"
            raw = raw.replace(b"\0", b"?")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            place = f"byte {error.start + 1} of line {self._line}"
            self._flaw = self._flaw or f"{place} is not UTF-8; save the file as UTF-8"
            return raw.decode(errors="replace")

    def _refusal(self, reason: str) -> ImportRefused:
        problems = Problems()
        problems.add(Problem(self._begins_on, "", reason))
        return problems.refusal("The file cannot be read to its end, so nothing was taken from it.")
