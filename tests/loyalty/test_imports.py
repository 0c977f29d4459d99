from datetime import UTC, date, datetime

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from loyalty.errors import EnrolmentClosed, ImportRefused, InvalidInput
from loyalty.models import Card, CardBalance, CardImport, CardImportRow, Customer, ExpirationRun, Merchant, Transaction
from loyalty.services import enrolment, expiration
from loyalty.services.enrolment import Person
from loyalty.services.imports import Outcome
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_merchant
from tests.loyalty.imports import all_tables, balances, named, preview, run, write

pytestmark = pytest.mark.django_db

EVERYTHING = "external_id,first_name,last_name,email,phone,birth_date,locale,points,stamps,last_activity_on"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "customers.csv"


@pytest.fixture
def merchant():
    return make_merchant(timezone="Europe/Luxembourg")


def in_luxembourg() -> Merchant:
    """A merchant whose national phone numbers are understood."""
    merchant = make_merchant(timezone="Europe/Luxembourg")
    merchant.country = "LU"
    merchant.save()
    return merchant


def refusal(path, merchant, **options) -> ImportRefused:
    """Why a file is refused; whatever the reason, every table is as it was."""
    before = all_tables()
    with pytest.raises(ImportRefused) as caught:
        run(path, merchant, **options)
    assert all_tables() == before
    return caught.value


def problems(path, merchant, **options) -> list[tuple[int, str, str]]:
    found = refusal(path, merchant, **options).details["problems"]
    return [(problem["line"], problem.get("column", ""), problem["reason"]) for problem in found]


def test_a_line_becomes_a_customer_with_a_card_and_its_balance(file):
    line = 'C1,Ana,"Weber, née Klein",Ana@Example.com,621 123 456,1990-02-28,fr,1250,7,2026-01-15'
    merchant = in_luxembourg()

    report = run(write(file, [line], header=EVERYTHING), merchant)

    assert (report.outcome, report.rows, report.imported, report.skipped) == (Outcome.IMPORTED, 1, 1, 0)
    card = Card.objects.select_related("customer", "balance").get()
    customer, balance = card.customer, card.balance
    assert (customer.external_id, customer.first_name, customer.last_name) == ("C1", "Ana", "Weber, née Klein")
    assert (customer.email, customer.phone) == ("Ana@Example.com", "+352621123456")
    assert (customer.birth_date, customer.locale, customer.created_at) == (date(1990, 2, 28), "fr", NOON)
    assert (card.program, card.status, card.created_at) == (merchant.program, Card.Status.ACTIVE, NOON)
    assert (balance.points_balance, balance.stamp_count, balance.lifetime_points_earned) == (1250, 7, 0)
    assert balance.last_activity_at == datetime(2026, 1, 15, 11, 0, tzinfo=UTC)
    assert check_ledger().mismatches == []


def test_the_ledger_says_where_a_balance_came_from_and_nobody_is_written_to(file, merchant):
    report = run(write(file, ["", "C1,30,2026-02-01"]), merchant)

    created, imported = Transaction.objects.order_by("seq")
    assert (created.type, created.points_delta, imported.type, imported.points_delta) == (
        *("CARD_CREATED", 0),
        *("BALANCE_IMPORTED", 30),
    )
    for row in (created, imported):
        assert (row.actor, row.details) == ("Mia", {"import": report.import_id, "line": 3})
        assert (row.transaction_at, row.created_at) == (datetime(2026, 2, 1, 11, 0, tzinfo=UTC), NOON)
    assert not Message.objects.exists()


def test_the_summary_stays_and_the_personal_data_goes(file, merchant):
    run(write(file, ["C1,1,", "C2,x,", "C3,3,"]), merchant, skip_bad=True)

    kept = CardImport.objects.get()
    assert (kept.file_name, kept.actor, kept.rows, kept.imported, kept.skipped) == ("customers.csv", "Mia", 3, 2, 1)
    assert kept.finished_at is not None
    assert not CardImportRow.objects.exists()


def test_columns_in_any_order_with_semicolons_a_mark_and_windows_lines(file, merchant):
    file.write_bytes("\ufeffpoints;last_name;external_id\r\n5;Émile;C1\r\n\r\n6;;C2\r\n".encode())
    assert run(file, merchant).imported == 2
    assert balances(merchant) == {"C1": 5, "C2": 6}


@pytest.mark.parametrize(
    ("points", "stamps", "types"),
    [
        ("0", "", ["CARD_CREATED"]),
        ("0", "0", ["CARD_CREATED"]),
        ("0", "3", ["CARD_CREATED", "BALANCE_IMPORTED"]),
        ("2000000000", "2000000000", ["CARD_CREATED", "BALANCE_IMPORTED"]),
    ],
)
def test_a_balance_is_imported_where_there_is_one(file, merchant, points, stamps, types):
    run(write(file, [f"C1,{points},{stamps}"], header="external_id,points,stamps"), merchant)
    assert list(Transaction.objects.order_by("seq").values_list("type", flat=True)) == types
    assert check_ledger().mismatches == []


@pytest.mark.parametrize(
    ("zone", "day", "moment"),
    [
        ("UTC", "", NOON),
        ("Europe/Luxembourg", "2025-07-01", datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("Pacific/Auckland", "2026-03-02", datetime(2026, 3, 1, 23, tzinfo=UTC)),
        ("Pacific/Auckland", "2026-03-03", NOON),  # it is past midnight there, and noon is yet to come
        ("America/New_York", "2026-03-02", NOON),
        ("UTC", "1970-01-01", datetime(1970, 1, 1, 12, tzinfo=UTC)),
    ],
)
def test_activity_counts_from_noon_of_the_local_day_and_never_from_the_future(file, zone, day, moment):
    merchant = make_merchant(timezone=zone)
    run(write(file, [f"C1,5,{day}"]), merchant)
    assert CardBalance.objects.get().last_activity_at == moment


WRONG = [
    ("external_id", "", "is missing"),
    ("external_id", "C" * 81, "is longer than 80 characters"),
    ("external_id", "C\t1", "holds a control character, such as a tab or a line break"),
    ("first_name", "A" * 81, "is longer than 80 characters"),
    ("first_name", '"Ana\nMaria"', "holds a control character, such as a tab or a line break"),
    ("last_name", "We\x1b[2Jber", "holds a control character, such as a tab or a line break"),
    ("last_name", "We\u2028ber", "holds a control character, such as a tab or a line break"),
    ("email", "ana(at)example.com", "is not an e-mail address, such as ana@example.com"),
    ("email", f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 20}.com", "is longer than 254 characters"),
    ("phone", "call me", "is not a phone number, such as +352 621 123 456"),
    ("phone", "621 123 456", "is not a phone number, such as +352 621 123 456"),
    ("phone", "+49 1234", "is not a phone number, such as +352 621 123 456"),
    ("birth_date", "28.02.1990", '"28.02.1990" is not a date, such as 2026-03-31'),
    ("birth_date", "1990-02-29", '"1990-02-29" is not a day of the calendar'),
    ("birth_date", "1899-12-31", '"1899-12-31" is before 1900-01-01'),
    ("birth_date", "2026-03-03", '"2026-03-03" is in the future'),
    ("locale", "français", '"français" is not a language, such as fr'),
    ("locale", "fr-" + "x" * 14, "is longer than 16 characters"),
    ("points", "", "is missing"),
    ("points", "-5", '"-5" is negative'),
    ("points", "12.5", '"12.5" is not a whole number, such as 1250'),
    ("points", '"1,250"', '"1,250" is not a whole number, such as 1250'),
    ("points", "1e3", '"1e3" is not a whole number, such as 1250'),
    ("points", "٣", '"٣" is not a whole number, such as 1250'),
    ("points", "2000000001", '"2000000001" is more than 2,000,000,000'),
    ("points", "9" * 5000, f'"{"9" * 40}" is more than 2,000,000,000'),
    ("points", "many\x07", '"many?" is not a whole number, such as 1250'),
    ("stamps", "-1", '"-1" is negative'),
    ("stamps", "1.5", '"1.5" is not a whole number, such as 1250'),
    ("last_activity_on", "2026-3-1", '"2026-3-1" is not a date, such as 2026-03-31'),
    ("last_activity_on", "2026-00-10", '"2026-00-10" is not a day of the calendar'),
    ("last_activity_on", "2026-13-01", '"2026-13-01" is not a day of the calendar'),
    ("last_activity_on", "0000-01-01", '"0000-01-01" is not a day of the calendar'),
    ("last_activity_on", "2025-04-31", '"2025-04-31" is not a day of the calendar'),
    ("last_activity_on", "2026-03-03", '"2026-03-03" is in the future'),
    ("last_activity_on", "1969-12-31", '"1969-12-31" is before 1970-01-01'),
    ("last_activity_on", "yesterday", '"yesterday" is not a date, such as 2026-03-31'),
]


@pytest.mark.parametrize(("column", "value", "reason"), WRONG)
def test_a_wrong_value_is_named_with_line_column_and_reason(file, merchant, column, value, reason):
    values = {"external_id": "C2", "points": "1", column: value}
    write(file, [",".join(values.get(name, "") for name in EVERYTHING.split(","))], header=EVERYTHING)
    assert problems(file, merchant) == [(2, column, reason)]


def test_everything_that_is_wrong_in_a_line_is_named(file, merchant):
    header = "external_id,email,phone,points,last_activity_on"
    write(file, ["C1,,,1,", ",x,y,-1,2026-02-30", "C3,,,1,", "C4,a"], header=header)
    assert problems(file, merchant) == [
        (3, "email", "is not an e-mail address, such as ana@example.com"),
        (3, "phone", "is not a phone number, such as +352 621 123 456"),
        (3, "external_id", "is missing"),
        (3, "points", '"-1" is negative'),
        (3, "last_activity_on", '"2026-02-30" is not a day of the calendar'),
        (5, "", "it has 2 values, the header 5"),
    ]
    assert refusal(file, merchant).sentence == (
        "6 problems in 2 of 4 lines; nothing was imported. Correct the file, or leave these lines out (skip-bad)."
    )


def test_lines_that_cannot_be_read_are_left_out_like_others(file, merchant):
    file.write_bytes(b"external_id,points\nC1,1\nZo\xeb,2\nC\x003,3\nC4,4,4\nC5,5\n")
    report = run(file, merchant, skip_bad=True)
    assert [(line, reason) for line, _, reason in named(report)] == [
        (3, "byte 3 of line 3 is not UTF-8; save the file as UTF-8"),
        (4, "byte 2 of line 4 is NUL"),
        (5, "it has 3 values, the header 2"),
    ]
    assert (report.imported, report.skipped) == (2, 3)
    assert balances(merchant) == {"C1": 1, "C5": 5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("points,external_id,colour\nC1,1,red\n", "the column 'colour' is not known"),
        ("external_id\nC1\n", "the column points is missing"),
        ("points,external_id,points\n1,C1,1\n", "the column points is there 2 times"),
        ('external_id,points\n"C1,1\n', "a quoted value is never closed"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_file_that_cannot_be_read_as_a_whole_is_refused(file, merchant, content, reason, skip_bad):
    file.write_text(content)
    assert [reason for _, _, reason in problems(file, merchant, skip_bad=skip_bad)] == [reason]


def test_a_file_without_lines_is_refused_in_words(file, merchant):
    sentence = refusal(write(file, []), merchant).sentence
    assert sentence == f"{file} has a header and no lines: there is nothing to import."


def test_a_file_where_every_line_is_bad_is_refused_even_when_bad_lines_may_be_left_out(file, merchant):
    error = refusal(write(file, ["C1,x,", "C2,y,"]), merchant, skip_bad=True)
    assert error.sentence == "2 problems in 2 of 2 lines; nothing was imported. No line is good."
    assert error.details["problem_count"] == 2


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("external_id", ["C1", "C2", " C1 "]),
        ("email", ["ana@example.com", "bo@example.com", "ANA@Example.COM"]),
        ("phone", ["+352 621 123 456", "+352 621 123 457", "00352621123456"]),
    ],
)
def test_a_customer_who_is_in_the_file_twice_is_named_with_both_lines(file, column, values):
    merchant = in_luxembourg()
    header = "external_id,points" if column == "external_id" else f"external_id,points,{column}"
    lines = [f"{v},1" if column == "external_id" else f"C{n},1,{v}" for n, v in enumerate(values)]
    assert problems(write(file, lines, header=header), merchant) == [(4, column, "is on line 2 already")]


def test_lines_without_an_address_are_not_the_same_customer(file, merchant):
    assert run(write(file, ["C1,1,,", "C2,2,,"], header="external_id,points,email,phone"), merchant).imported == 2


@pytest.mark.parametrize(
    ("known", "column", "value"),
    [
        ({"external_id": "C1"}, "external_id", "C1"),
        ({"email": "Ana@example.com"}, "email", "ana@EXAMPLE.com"),
        ({"phone": "+352621123456"}, "phone", "+352 621 123 456"),
    ],
)
def test_a_customer_who_exists_already_is_named(file, merchant, known, column, value):
    customer = make_card(merchant, **{"email": "", **known}).customer
    values = {"external_id": "C9", "points": "1", column: value}
    write(file, [",".join(values.get(name, "") for name in EVERYTHING.split(","))], header=EVERYTHING)
    assert problems(file, merchant) == [(2, column, f"belongs to customer {customer.pk} already")]


def test_customers_of_another_merchant_do_not_matter(file, merchant):
    make_card(external_id="C1", email="ana@example.com", phone="+352621123456")
    write(file, ["C1,1,ana@example.com,+352621123456"], header="external_id,points,email,phone")
    assert run(file, merchant).imported == 1


def test_good_lines_are_imported_when_bad_ones_may_be_left_out(file, merchant):
    report = run(write(file, ["C1,1,", "C2,-1,", "C1,3,", "C4,4,"]), merchant, skip_bad=True)
    assert (report.rows, report.imported, report.skipped) == (4, 2, 2)
    assert named(report) == [(3, "points", '"-1" is negative'), (4, "external_id", "is on line 2 already")]
    assert balances(merchant) == {"C1": 1, "C4": 4}
    assert check_ledger().mismatches == []


def test_all_problems_are_counted_and_the_first_thousand_named(file, merchant):
    error = refusal(write(file, [f"C{n},x,y" for n in range(700)]), merchant)
    assert error.details["problem_count"] == 1400
    assert len(error.details["problems"]) == 1000


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_preview_tells_the_same_and_changes_no_table(file, merchant, skip_bad):
    write(file, ["C1,1,2026-02-01", *(["C2,x,"] if skip_bad else []), "C3,3,"])
    before = all_tables()
    told = preview(file, merchant, skip_bad=skip_bad)
    assert all_tables() == before
    assert told.outcome == Outcome.CHECKED

    done = run(file, merchant, skip_bad=skip_bad)
    assert (told.rows, told.imported, told.skipped, told.problems) == (
        *(done.rows, done.imported, done.skipped),
        done.problems,
    )


def test_a_preview_refuses_what_an_import_would_refuse(file, merchant):
    write(file, ["C1,x,"])
    before = all_tables()
    with pytest.raises(ImportRefused) as told:
        preview(file, merchant)
    assert all_tables() == before
    assert told.value.details == refusal(file, merchant).details


def test_the_same_file_is_imported_once_whatever_its_name(file, merchant, tmp_path):
    first = run(write(file, ["C1,1,", "C2,x,"]), merchant, skip_bad=True)
    again = file.rename(tmp_path / "renamed.csv")
    before = all_tables()

    for report in (run(again, merchant), preview(again, merchant)):
        assert (report.outcome, report.import_id) == (Outcome.ALREADY_IMPORTED, first.import_id)
        assert (report.rows, report.imported, report.skipped) == (2, 1, 1)
        assert report.finished_at is not None
    assert all_tables() == before


def test_a_corrected_file_brings_what_was_left_out(file, merchant):
    run(write(file, ["C1,1,", "C2,x,"]), merchant, skip_bad=True)
    report = run(write(file, ["C1,1,", "C2,2,"]), merchant, skip_bad=True)
    assert (report.imported, report.skipped) == (1, 1)
    assert balances(merchant) == {"C1": 1, "C2": 2}


def test_the_same_file_can_be_imported_for_two_merchants(file, merchant):
    write(file, ["C1,1,"])
    other = make_merchant()
    assert [run(file, merchant).imported, run(file, other).imported] == [1, 1]
    assert balances(merchant) == balances(other) == {"C1": 1}


def test_a_merchant_without_a_program_cannot_import(file):
    merchant = Merchant.objects.create(name="Bakery", slug="bakery", currency="EUR")
    with pytest.raises(EnrolmentClosed, match="Bakery has no program yet"):
        run(write(file, ["C1,1,"]), merchant)


def test_a_missing_file_is_named(merchant, tmp_path):
    with pytest.raises(InvalidInput, match=r"gone\.csv cannot be read: No such file or directory\."):
        run(tmp_path / "gone.csv", merchant)


def test_a_file_that_grows_while_it_is_read_is_refused(file, merchant):
    write(file, [f"C{n},1," for n in range(20_000)])

    def grow(step: str, done: int, total: int) -> None:
        with file.open("a") as more:
            more.write(f"D{done},1,\n")

    before = all_tables()
    with pytest.raises(ImportRefused, match="The file was changed while it was read"):
        run(file, merchant, progress=grow)
    assert all_tables() == before


def test_a_customer_who_enrols_during_the_import_keeps_the_card_and_the_others_get_theirs(file, merchant):
    write(file, [f"C{n},{n},c{n}@example.com" for n in range(1500)], header="external_id,points,email")

    def enrol(step: str, done: int, total: int) -> None:
        if step == "importing" and done == 1000:
            enrolment.enrol(merchant=merchant, person=Person(email="C1200@example.com"), at=NOON)

    report = run(file, merchant, progress=enrol)

    assert (report.rows, report.imported, report.skipped) == (1500, 1499, 1)
    assert named(report) == [(1202, "email", "belongs to a customer who enrolled meanwhile")]
    assert balances(merchant) == {"": 0} | {f"C{n}": n for n in range(1500) if n != 1200}
    assert check_ledger().mismatches == []


def test_progress_is_told_in_three_steps(file, merchant):
    seen = []
    run(write(file, [f"C{n},1," for n in range(1200)]), merchant, progress=lambda *told: seen.append(told))
    size = file.stat().st_size
    assert ("reading", size, size) in seen
    assert seen[-3:] == [("checking", 0, 1200), ("importing", 1000, 1200), ("importing", 1200, 1200)]


def test_imported_cards_idle_for_years_are_warned_before_they_expire(file, merchant):
    run(write(file, ["C1,500,2020-05-01"]), merchant)

    def expire(at: datetime) -> tuple[int, int]:
        tally = expiration.expire_points(as_of=at, at=datetime.now(UTC), trigger=ExpirationRun.Trigger.COMMAND).tally
        return tally.warnings, tally.cards_expired

    assert expire(NOON) == (1, 0)
    assert expire(NOON + days(14)) == (0, 0)
    assert expire(NOON + days(15)) == (0, 1)
    assert balance_of(Card.objects.get()).points_balance == 0


def test_lines_are_compared_fast_even_when_the_planner_knows_only_those_of_another_import(file, merchant):
    other = CardImport.objects.create(merchant=merchant, file_name="a.csv", sha256="a", actor="Mia")
    CardImportRow.objects.bulk_create(CardImportRow(card_import=other, line=line) for line in range(2000))
    write(file, [f"C{n},1,c{n}@example.com" for n in range(20_000)], header="external_id,points,email")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE loyalty_cardimportrow, loyalty_customer")
        # Comparing each with each takes minutes.
        cursor.execute("SET LOCAL statement_timeout = '10s'")
    assert preview(file, merchant).imported == 20_000


def test_memory_for_statements_is_given_back_with_debug_on(file, merchant, settings):
    settings.DEBUG = True
    run(write(file, [f"C{n},1," for n in range(50)]), merchant)
    assert len(connection.queries) < 15


NUMBERS = st.one_of(
    st.integers(-10, 3_000_000_000).map(str), st.text("0123456789-+. ,eE٣", max_size=12), st.floats().map(str)
)
DAYS = st.one_of(
    st.dates(date(1890, 1, 1), date(2030, 1, 1)).map(str),
    st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 14), st.integers(0, 33)),
    st.text("0123456789-/ ", max_size=11),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, DAYS, DAYS), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_numbers_and_days_are_judged_as_python_judges_them(tmp_path_factory, rows):
    def bad_number(text: str, *, needed: bool) -> bool:
        if text == "":
            return needed
        return not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= 2_000_000_000)

    def bad_day(text: str, earliest: date) -> bool:
        if text == "":
            return False
        try:
            return len(text) != 10 or not earliest <= date.fromisoformat(text) <= NOON.date()
        except ValueError:
            return True

    expected = {(1, "points")}
    lines = ["C,x,,,"]
    for number, row in enumerate(rows, start=2):
        points, stamps, birth, activity = (value.strip() for value in row)
        lines.append(f'"C{number}","{points}","{stamps}","{birth}","{activity}"')
        wrong = {
            "points": bad_number(points, needed=True),
            "stamps": bad_number(stamps, needed=False),
            "birth_date": bad_day(birth, date(1900, 1, 1)),
            "last_activity_on": bad_day(activity, date(1970, 1, 1)),
        }
        expected |= {(number, column) for column, is_wrong in wrong.items() if is_wrong}
    path = tmp_path_factory.mktemp("csv") / "cards.csv"
    write(path, lines, header="external_id,points,stamps,birth_date,last_activity_on")

    with pytest.raises(ImportRefused) as caught:
        preview(path, make_merchant())
    found = {(problem["line"] - 1, problem["column"]) for problem in caught.value.details["problems"]}
    assert found == expected


def test_imported_rows_are_what_the_orm_would_have_saved(file, merchant):
    run(write(file, ["C1,0,"]), merchant)
    make_card(merchant, external_id="C2", email="")
    for model, key, own in (
        (Customer, "external_id", {"id", "external_id"}),
        (Card, "customer__external_id", {"id", "customer_id", "card_number", "qr_token"}),
        (CardBalance, "card__customer__external_id", {"card_id"}),
    ):
        imported, usual = (model._default_manager.filter(**{key: name}).values().get() for name in ("C1", "C2"))
        assert {**imported, **dict.fromkeys(own)} == {**usual, **dict.fromkeys(own)}
