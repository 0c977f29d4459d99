import csv
import io
import json
import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from loyalty.errors import ImportRefused, InvalidInput
from loyalty.services import csv_files, staging
from loyalty.services.csv_files import LONGEST_RECORD_BYTES, PROBLEMS_KEPT
from loyalty.services.staging import StagedFile

pytestmark = pytest.mark.django_db

COLUMNS = {"name": "name", "amount": "amount", "amount_usd": "amount"}


@pytest.fixture(autouse=True)
def _table(db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE staged (line int, name text, amount text, import int, problems jsonb)")
        yield
        cursor.execute("DROP TABLE staged")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "purchases.csv"


def stage(path: Path, content: bytes | str, **options: Any) -> StagedFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    defaults: dict[str, Any] = {"columns": COLUMNS, "required": ["name", "amount"]}
    return staging.stage(path, table="staged", **{**defaults, **options})


def staged(columns: str = "line, name, amount") -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM staged ORDER BY line")
        return list(cursor.fetchall())


def refusal(path: Path, content: bytes | str, **options: Any) -> ImportRefused:
    """Why the file is refused; whatever the reason, nothing of it is staged."""
    with pytest.raises(ImportRefused) as caught:
        stage(path, content, **options)
    assert staged() == []
    return caught.value


def problems(path: Path, content: bytes | str, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = refusal(path, content, **options).details["problems"]
    return found


@pytest.mark.parametrize(
    "content",
    [
        "name,amount\nAna,1.50\nBo,2\n",
        "amount;name\n1.50;Ana\n2;Bo",
        "\ufeffname,amount\r\nAna,1.50\r\nBo,2\r\n",
        '"name"; "amount"\n"Ana";"1.50"\n Bo ;\u00a02\t\n',
    ],
)
def test_each_way_to_write_a_file_gives_the_same_rows(file, content):
    content = content.replace('; "amount"', ';"amount"')
    assert stage(file, content) == StagedFile(2, csv_files.fingerprint(file), frozenset({"name", "amount"}))
    assert staged() == [(2, "Ana", "1.50"), (3, "Bo", "2")]


def test_lines_are_those_of_a_text_editor_also_with_blank_lines_and_breaks_inside_values(file):
    stage(file, 'name,amount\n\n"two\nlines",1\r\n\r\nBo,2\n\n')
    assert staged() == [(3, "two\nlines", "1"), (6, "Bo", "2")]


def test_columns_that_the_file_lacks_are_empty_and_others_are_ignored_on_request(file):
    assert stage(file, "x,name,x\n1,Ana,2\n", required=["name"], ignore_others=True).columns == {"name"}
    assert staged() == [(2, "Ana", "")]


def test_constants_are_in_every_row(file):
    stage(file, "name,amount\nAna,1\nBo,2\n", constants={"import": 7})
    assert staged("line, import") == [(2, 7), (3, 7)]


def test_one_of_two_names_for_a_column_is_enough(file):
    stage(file, "name,amount_usd\nAna,3\n")
    assert staged() == [(2, "Ana", "3")]


@pytest.mark.parametrize(
    ("header", "reasons"),
    [
        ("name,amount,nickname", ["the column 'nickname' is not known"]),
        ("name,amount,", ["the column '' is not known"]),
        ("name", ["the column amount or amount_usd is missing"]),
        ("amount,name,amount", ["the column amount is there 2 times"]),
        ("name,amount,amount_usd", ["the columns amount and amount_usd mean the same; keep one"]),
        ("x\x1b[2J,y", ["the column 'x\\x1b[2J' is not known", "the column 'y' is not known"]),
        ("Name,amount", ["the column 'Name' is not known", "the column name is missing"]),
    ],
)
def test_a_wrong_header_is_refused_with_every_reason(file, header, reasons):
    found = problems(file, f"\n{header}\nAna,1\n")
    assert [problem["reason"] for problem in found][: len(reasons)] == reasons
    assert {problem["line"] for problem in found} == {2}


@pytest.mark.parametrize("content", ["", "\n\r\n  \n", "\ufeff"])
def test_an_empty_file_is_refused(file, content):
    assert problems(file, content) == [{"line": 1, "reason": "the file is empty"}]


def test_a_file_with_a_header_alone_has_no_rows(file):
    assert stage(file, "name,amount\n").rows == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"Ana\n", "it has 1 values, the header 2"),
        (b"Ana,1,2\n", "it has 3 values, the header 2"),
        (b"   \n", "it has 1 values, the header 2"),
        (b"Zo\xeb,1\n", "byte 3 of line 3 is not UTF-8; save the file as UTF-8"),
        (b"A\xed\xa0\x80,1\n", "byte 2 of line 3 is not UTF-8; save the file as UTF-8"),
        (b"A\0na,1\n", "byte 2 of line 3 is NUL"),
        (b'"A\nn\xff",1\n', "byte 2 of line 4 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_row_that_cannot_be_used_refuses_the_file_or_is_kept_with_its_problem(file, row, reason):
    content = b"name,amount\nBo,1\n" + row + b"Cy,3\n"
    assert problems(file, content) == [{"line": 3, "reason": reason}]

    assert stage(file, content, problems_column="problems").rows == 3
    good, bad, other = staged("line, name, problems::text")
    assert (good, other[1:]) == ((2, "Bo", "[]"), ("Cy", "[]"))
    assert (bad[:2], json.loads(bad[2])) == ((3, ""), [{"column": "", "reason": reason}])


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ('"Ana,1\nBo,2\n', "a quoted value is never closed"),
        ('"Ana"x,1\n', "something follows the quote that closes a value"),
        ("An\ra,1\n", "a carriage return stands without a line feed; lines end in LF or in CR and LF"),
        ('"' + "Ana,1\n" * 40_000, "it is longer than 131,072 bytes; is a quote never closed?"),
        ("A" * LONGEST_RECORD_BYTES + ",1\n", "it is longer than 131,072 bytes; is a quote never closed?"),
        ("Ana," * LONGEST_RECORD_BYTES, "it is longer than 131,072 bytes; is a quote never closed?"),
    ],
)
@pytest.mark.parametrize("keeps_bad", [True, False])
def test_where_records_cannot_be_told_apart_reading_ends_and_the_file_is_refused(file, rest, reason, keeps_bad):
    found = problems(file, f"name,amount\nBo,1\n{rest}", problems_column="problems" if keeps_bad else "")
    assert found == [{"line": 3, "reason": reason}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_refused_in_words(file, encoding):
    (problem,) = problems(file, "name,amount\nAna,1\n".encode(encoding))
    assert problem["line"] == 1
    assert problem["reason"] in ("the file is UTF-16; save it as UTF-8", "byte 2 of line 1 is NUL")


def test_values_are_converted_and_what_cannot_be_names_its_column(file):
    def whole(value: str) -> str:
        if not value.isdigit():
            raise InvalidInput("This is not a number.")
        return f"{value}.00"

    content = "amount_usd,name\nx,Ana\n5,Bo\n,Cy\n"
    assert problems(file, content, convert={"amount": whole}) == [
        {"line": 2, "column": "amount_usd", "reason": "This is not a number."}
    ]
    stage(file, content, convert={"amount": whole}, problems_column="problems")
    assert staged() == [(2, "Ana", "x"), (3, "Bo", "5.00"), (4, "Cy", "")]


def test_all_problems_are_counted_and_the_first_thousand_named(file):
    error = refusal(file, "name,amount\n" + "x\n" * 1500)
    assert (error.details["problem_count"], len(error.details["problems"])) == (1500, PROBLEMS_KEPT)
    assert error.sentence == f"{file} has 1,500 problems."


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, sentence in [
        (tmp_path / "gone.csv", "gone.csv cannot be read: No such file or directory."),
        (tmp_path, "is not a file."),
        (pipe, "pipe is not a file."),
        (tmp_path / "\udcff\udc80.csv", "??.csv cannot be read: No such file or directory."),
        (tmp_path / ("x" * 300), "cannot be read: File name too long."),
        (tmp_path / "nul\0", "cannot be read: this is not the name of a file."),
    ]:
        for read in (csv_files.fingerprint, lambda path: staging.stage(path, table="x", columns={}, required=[])):
            with pytest.raises(InvalidInput, match=r".*") as caught:
                read(path)
            assert caught.value.sentence.endswith(sentence)


@pytest.fixture
def as_nobody():
    """Root may read everything, so for a moment it is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_closed_to_us_is_named_with_the_reason(file, request):
    file.write_text("name,amount\n")
    file.chmod(0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(InvalidInput, match=r"cannot be read: Permission denied\.$"):
        csv_files.fingerprint(file)


def test_progress_counts_bytes_up_to_the_end(file):
    seen: list[tuple[int, int]] = []
    stage(file, "name,amount\n" + "Ana,1\n" * 2500, progress=lambda read, total: seen.append((read, total)))
    size = file.stat().st_size
    assert len(seen) == 3
    assert sorted(seen) == seen
    assert seen[-1] == (size, size)


def test_memory_stays_the_same_for_ten_times_the_rows(file):
    def peak(rows: int) -> int:
        tracemalloc.start()
        stage(file, "name,amount\n" + f"{'Ana' * 20},1\n" * rows)
        tracemalloc.reset_peak()
        staging.stage(file, table="staged", columns=COLUMNS, required=[])
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(500)  # imports and caches
    small, large = peak(2_000), peak(20_000)
    assert large < small + 100_000


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.one_of(TEXT, st.text('",;\r\n \tx', max_size=6))


@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=6),
    delimiter=st.sampled_from(",;"),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    quote_all=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_what_is_written_is_what_is_staged(rows, delimiter: str, end: str, mark, quote_all):
    def written(values: Sequence[str]) -> str:
        return delimiter.join(quoted(value) for value in values) + end

    def quoted(value: str) -> str:
        needs_it = quote_all or value == "" or any(character in value for character in '",;\r\n')
        return '"' + value.replace('"', '""') + '"' if needs_it else value

    lines, expected, line = [written(["name", "amount"])], [], 2
    for row in rows:
        lines.append(written(row))
        expected.append((line, row[0].strip(), row[1].strip()))
        line += lines[-1].count("\n")
    with tempfile.TemporaryDirectory() as folder, transaction.atomic():
        content = "".join(lines)
        path = Path(folder, "file.csv")
        assert stage(path, ("\ufeff" if mark else "") + content).rows == len(rows)
        assert staged() == expected
        assert list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter))[1:] == [
            list(row) for row in rows
        ]
        transaction.set_rollback(True)


@given(st.binary(max_size=200) | st.text('"a,;\r\n\0', max_size=60).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_staged_or_refused_with_a_line(content):
    with tempfile.TemporaryDirectory() as folder, transaction.atomic():
        try:
            stage(Path(folder, "file.csv"), b"name,amount\n" + content, problems_column="problems")
        except ImportRefused as error:
            lines = [problem["line"] for problem in error.details["problems"]]
            assert lines
            assert max(lines) <= content.count(b"\n") + 2
        transaction.set_rollback(True)
