"""CSV files streamed into a table by COPY: constant memory, and problems named by line.

stage(
    path: Path, *,
    table: str,
    columns: Mapping[str, str],                        # name in the file -> column of the table
    required: Collection[str],                         # columns of the table that the file must have
    ignore_others: bool = False,
    constants: Mapping[str, object] = {},              # column of the table -> its value in every row
    convert: Mapping[str, Callable[[str], str]] = {},  # column of the table -> its form; may raise InvalidInput
    problems_column: str = "",
    progress: Callable[[int, int], None] = ...,        # bytes read, bytes in the file
) -> StagedFile(rows: int, sha256: str, columns: frozenset[str])

The table has a whole-number column `line`; the others are text, "" where the file has no such column.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection, transaction

from loyalty.errors import InvalidInput
from loyalty.services.csv_files import CsvFile, Problem, Problems, Progress, Record, fingerprint, opened, shown

__all__ = ["StagedFile", "fingerprint", "shown", "stage"]
Convert = Callable[[str], str]
ROWS_BETWEEN_REPORTS = 1000


class StagedFile(NamedTuple):
    """What was read: rows without the header, the checksum of the bytes, which columns of the table the file has."""

    rows: int
    sha256: str
    columns: frozenset[str]


def stage(
    path: Path,
    *,
    table: str,
    columns: Mapping[str, str],
    required: Collection[str],
    ignore_others: bool = False,
    constants: Mapping[str, object] | None = None,
    convert: Mapping[str, Convert] | None = None,
    problems_column: str = "",
    progress: Progress = lambda _read, _total: None,
) -> StagedFile:
    """Copy a CSV file into a table: a row for each record, with the line on which it begins.

    Comma or semicolon, quotes, LF or CRLF, UTF-8 with or without a mark; blank lines count as lines and are left
    out. Values lose surrounding space. Two names in the file may mean the same column; only one may be there.

    `problems_column` (jsonb) gets a list of {"column", "reason"} for every row, empty for good ones; "column" is ""
    where the row itself cannot be used, and then its values are empty. Without it one such row refuses the file.
    All or nothing: when this raises, nothing is staged.

    Raises:
        InvalidInput: the file is missing, not a file, or closed to us.
        ImportRefused: the header or the quoting is wrong, or rows are. Details: `problems`, the first 1,000 as
            {"line", "column" if it is about one, "reason"}, and `problem_count`.
    """
    fixed = dict(constants or {})
    with opened(path) as file, transaction.atomic():
        source = CsvFile(file, progress)
        header = _header(source.header(), columns, required=required, ignore_others=ignore_others)
        rows = _Rows(source, header, convert or {}, keeps_bad=bool(problems_column))
        names = [
            "line",
            *(pick.column for pick in header.picks),
            *fixed,
            *([problems_column] if problems_column else []),
        ]
        with _copying(table, names) as copy:
            for line, values, problems in rows:
                copy.write_row([line, *values, *fixed.values(), *([problems] if problems_column else [])])
        if rows.problems.count:
            raise rows.problems.refusal(f"{shown(path)} has {rows.problems.count:,} problems.")
        source.report()
        present = frozenset(pick.column for pick in header.picks if pick.position is not None)
        return StagedFile(rows.count, source.sha256, present)


@contextmanager
def _copying(table: str, columns: list[str]) -> Iterator[Any]:
    quote = connection.ops.quote_name
    statement = f"COPY {quote(table)} ({', '.join(map(quote, columns))}) FROM STDIN"
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(statement) as copy:
        yield copy


class _Pick(NamedTuple):
    """Where a column of the table comes from: its name and place in the file, which may not have it."""

    column: str
    name: str
    position: int | None


class _Header(NamedTuple):
    """The columns of the table in order, and how many values a line has."""

    picks: list[_Pick]
    width: int


def _header(written: Record, columns: Mapping[str, str], *, required: Collection[str], ignore_others: bool) -> _Header:
    names, reasons = written.fields, []
    for name, times in Counter(names).items():
        if name not in columns and not ignore_others:
            reasons.append(f"the column {name[:40]!r} is not known")
        elif name in columns and times > 1:
            reasons.append(f"the column {name} is there {times} times")
    picks = []
    for column in dict.fromkeys(columns.values()):
        known_as = [name for name, meant in columns.items() if meant == column]
        found = [name for name in known_as if name in names]
        if len(found) > 1:
            reasons.append(f"the columns {' and '.join(found)} mean the same; keep one")
        if not found and column in required:
            reasons.append(f"the column {' or '.join(known_as)} is missing")
        picks.append(_Pick(column, found[0] if found else column, names.index(found[0]) if found else None))
    _refuse_header(written.line, reasons)
    return _Header(picks, len(names))


def _refuse_header(line: int, reasons: list[str]) -> None:
    problems = Problems()
    for reason in reasons:
        problems.add(Problem(line, "", reason))
    if reasons:
        raise problems.refusal("The header cannot be used, so nothing was taken from the file.")


class _Rows:
    """Records as rows of the table. `problems` fills up when one bad row refuses the file."""

    def __init__(self, source: CsvFile, header: _Header, convert: Mapping[str, Convert], *, keeps_bad: bool) -> None:
        self.source, self.header, self.keeps_bad = source, header, keeps_bad
        self.picks = [(pick, convert.get(pick.column)) for pick in header.picks]
        self.nothing = [""] * len(header.picks)
        self.problems = Problems()
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, list[str], str]]:
        for record in self.source.records():
            self.count += 1
            if self.count % ROWS_BETWEEN_REPORTS == 0:
                self.source.report()
            found: list[Problem] = []
            values = self._values(record, found)
            if found and not self.keeps_bad:
                for problem in found:
                    self.problems.add(problem)
                continue
            told = [{"column": problem.column, "reason": problem.reason} for problem in found]
            yield record.line, values, json.dumps(told) if told else "[]"

    def _values(self, record: Record, found: list[Problem]) -> list[str]:
        flaw = record.flaw
        if not flaw and len(record.fields) != self.header.width:
            flaw = f"it has {len(record.fields)} values, the header {self.header.width}"
        if flaw:
            found.append(Problem(record.line, "", flaw))
            return self.nothing
        values = []
        for (_column, name, position), convert in self.picks:
            value = record.fields[position].strip() if position is not None else ""
            if convert and value:
                value = _converted(value, convert, Problem(record.line, name, ""), found)
            values.append(value)
        return values


def _converted(value: str, convert: Convert, place: Problem, found: list[Problem]) -> str:
    try:
        return convert(value)
    except InvalidInput as error:
        found.append(place._replace(reason=error.sentence))
        return value
