"""Thousands of requests made from the description of the API: no 5xx, and nothing that is not described."""

from typing import Any

import pytest

from tests.fakes.web_process import web
from tests.fuzz.roles import ROLES, fuzz
from tests.loyalty.api.described import World

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("LOOKUP", "ENROL", "EARN", "STAMPS", "REDEEM", "REVERSE", "STAFF_SESSIONS", "ADMIN")
UNTHROTTLED: dict[str, Any] = {f"LOYALTY_THROTTLE_{scope}": "0" for scope in SCOPES}
ALL_PHASES = "examples,coverage,fuzzing,stateful"


@pytest.fixture(scope="module")
def running(tmp_path_factory, django_db_setup):
    with web(tmp_path_factory.mktemp("site"), workers=2, **UNTHROTTLED) as found:
        yield found


@pytest.fixture
def server(running):
    yield running
    assert '"level": "error"' not in running.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_anybody_sends_is_answered_as_described(server, tmp_path):
    runs = {role: fuzz(server, role, World(), tmp_path, phases=ALL_PHASES, examples=40) for role in ROLES}

    for role, found in runs.items():
        print(f"{role}: {found.cases:,} cases, seed {found.seed}, in {found.seconds:.0f} s")
    cases = sum(found.cases for found in runs.values())
    print(f"{cases:,} cases in all")
    assert all(found.is_clean for found in runs.values()), "\n".join(found.output for found in runs.values())
    assert cases >= 5_000


@pytest.mark.parametrize("role", ROLES)
def test_a_part_of_it(server, tmp_path, role):
    found = fuzz(server, role, World(), tmp_path, phases="examples,fuzzing", examples=1)

    assert found.is_clean, found.output
    assert found.cases >= 50
