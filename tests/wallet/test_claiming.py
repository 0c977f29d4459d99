"""Which passes are due: a statement that is written out finds what the words of the model say."""

import random
from datetime import timedelta

import pytest

from tests.factories import NOON, make_cards, make_merchant
from tests.fakes.pki import ISSUER_ID, PASS_TYPE
from tests.wallet.rows import make_pass
from wallet.models import Artwork, Pass, Platform
from wallet.services.claiming import Selection, find_due

pytestmark = pytest.mark.django_db


def passes_in_every_state(merchant, chance):
    for card in make_cards(merchant, 40):
        card.refresh_from_db()
        make_pass(
            card,
            platform=chance.choice(Platform.values),
            saved=chance.random() < 0.7,
            status=chance.choice(Pass.Status.values),
            synced_version=card.balance.version - chance.choice([0, 0, 1]),
            synced_look=card.program.version - chance.choice([0, 0, 1]),
            tried_version=card.balance.version - chance.choice([0, 1]),
            tried_look=card.program.version - chance.choice([0, 0, 1]),
            dead_at=chance.choice([None, None, None, NOON]),
            next_attempt_at=chance.choice([None, NOON - timedelta(minutes=1), NOON + timedelta(minutes=1)]),
            lease_until=chance.choice([None, None, NOON - timedelta(minutes=1), NOON + timedelta(minutes=1)]),
        )


def test_it_finds_what_the_model_calls_due():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    first, second = make_merchant(), make_merchant()
    for merchant in (first, second):
        passes_in_every_state(merchant, chance)
    Artwork.objects.create(program=second.program, logo=b"", digest="", uploaded_at=NOON, uploaded_by="ana")
    some = list(Pass.objects.values_list("card_id", flat=True))[::3]

    for platform, identifier in ((Platform.APPLE, PASS_TYPE), (Platform.GOOGLE, ISSUER_ID)):
        mine = Pass.objects.filter(platform=platform, issued_under=identifier)
        for selection in (Selection(), Selection(merchant=first), Selection(card_ids=some)):
            expected = selection.passes().filter(pk__in=mine).due(NOON)
            found = find_due(platform, identifier, selection, at=NOON)
            assert sorted(found) == sorted(expected.values_list("pk", flat=True))
            assert found or selection.card_ids


def test_programs_take_turns():
    many, few = make_merchant(), make_merchant()
    for merchant, count in ((many, 5), (few, 2)):
        for card in make_cards(merchant, count):
            card.refresh_from_db()
            make_pass(card, synced_version=0)

    found = find_due(Platform.APPLE, PASS_TYPE, Selection(), at=NOON)

    programs = [Pass.objects.get(pk=pass_id).card.program_id for pass_id in found]
    assert programs[:4] == [many.program.pk, few.program.pk] * 2
    assert len(programs) == 7
