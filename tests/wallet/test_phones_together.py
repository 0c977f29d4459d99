"""Many phones, many cards, and everything in any order: in the end every phone shows every card as it is.

A small model of the world makes random steps over real HTTP: customers download, register late or never, throw passes
away and take them back; cards and programs change, also back to what they were; runs are seen between their claim and
their end; pushes come late, and phones fetch when nobody pushed.
"""

import os
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from loyalty.models import Card, Program
from loyalty.services import adjustments
from tests.factories import make_card, make_merchant
from tests.fakes.phone import Phone
from tests.wallet import dispatching
from wallet.models import Pass, Registration
from wallet.services import claiming, issuing
from wallet.services.claiming import Taken
from wallet.services.rendering import newest_face, told_to_apple

pytestmark = pytest.mark.django_db(transaction=True)
PHONES, CARDS = 8, 5
ROUNDS, STEPS = 8, 30
SEED = os.environ.get("PHONES_SEED")


class World:
    """Phones, cards, and what is under way between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = timezone.now()
        self.merchants = [make_merchant(), make_merchant(kind="hybrid")]
        self.cards = [make_card(self.random.choice(self.merchants), points=100, at=self.now) for _ in range(CARDS)]
        self.phones = [Phone() for _ in range(PHONES)]
        self.silent: set[tuple[str, str]] = set()  # downloaded and not registered yet
        self.running: list[Taken] = []
        self.unheard: set[str] = set()  # push tokens of phones that Apple has still to reach
        self.fetched = 0

    def at(self) -> datetime:
        """The clock; most steps happen within the same second, and sometimes it goes back."""
        self.now += timedelta(milliseconds=self.random.choice([0, 1, 10, 300, 1500, -700]))
        return self.now

    def step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self.download: 6,
            self.register: 3,
            self.register_again: 1,
            self.throw_away: 1,
            self.change_card: 8,
            self.change_and_change_back: 4,
            self.change_program: 2,
            self.claim: 6,
            self.settle: 7,
            self.lose_run: 1,
            self.deliver: 6,
            self.look_by_hand: 5,
        }
        [chosen] = self.random.choices(list(steps), list(steps.values()))
        chosen()

    def download(self) -> None:
        phone, card = self.random.choice(self.phones), self.random.choice(self.cards)
        held = phone.take(issuing.hand_out(card=card, at=self.at()).content)
        if not Registration.objects.filter(device=phone.device, wallet_pass__identifier=held.serial).exists():
            self.silent.add((phone.device, held.serial))

    def register(self) -> None:
        for device, serial in self.random.sample(sorted(self.silent), min(1, len(self.silent))):
            self._phone(device).register(serial)
            self.silent.discard((device, serial))

    def register_again(self) -> None:
        phone = self.random.choice(self.phones)
        for serial in phone.passes:
            if (phone.device, serial) not in self.silent:
                assert phone.register(serial) == 200

    def throw_away(self) -> None:
        phone = self.random.choice(self.phones)
        if phone.passes:
            serial = self.random.choice(sorted(phone.passes))
            phone.remove(serial)
            self.silent.discard((phone.device, serial))

    def change_card(self) -> None:
        self._adjust(self.random.choice(self.cards), self.random.choice([1, 2, 3, -1]))

    def change_and_change_back(self) -> None:
        """With other steps in between, of which some are fetches."""
        card = self.random.choice(self.cards)
        self._adjust(card, 7)
        for _ in range(self.random.randint(0, 4)):
            self.random.choice([self.look_by_hand, self.download, self.claim, self.settle, self.deliver])()
        self._adjust(card, -7)

    def change_program(self) -> None:
        colour = self.random.choice(["#101010", "#202020"])
        program = self.random.choice(self.merchants).program
        Program.objects.filter(pk=program.pk).update(background_colour=colour, version=F("version") + 1)

    def claim(self) -> None:
        if not self.running:
            self.running = dispatching.claim(at=self.at())

    def settle(self) -> None:
        self.unheard |= dispatching.phones_of(self.running)
        claiming.settle(self.running, at=self.at())
        self.running = []

    def lose_run(self) -> None:
        """Its process dies: nobody was pushed to, and the lease ends some time."""
        if self.running:
            Pass.objects.filter(pk__in=[one.wallet_pass.pk for one in self.running]).update(lease_until=None)
            self.running = []

    def deliver(self) -> None:
        if self.unheard:
            token = self.random.choice(sorted(self.unheard))
            self.unheard.discard(token)
            self.fetched += sum(len(phone.pushed()) for phone in self.phones if phone.push_token == token)

    def look_by_hand(self) -> None:
        """Somebody pulls a pass down to see whether it has changed."""
        phone = self.random.choice(self.phones)
        if phone.passes:
            phone.fetch(self.random.choice(sorted(phone.passes)))

    def come_to_rest(self) -> None:
        """The last phones register, runs go on until nothing is due, every push arrives."""
        while self.silent:
            self.register()
        self.settle()
        self.now += timedelta(minutes=10)
        while taken := dispatching.claim(at=self.at()):
            self.running = taken
            self.settle()
        while self.unheard:
            self.deliver()

    def differences(self) -> list[str]:
        """The phones and passes that do not show their card as it is."""
        newest = {row.identifier: told_to_apple(row, newest_face(row)) for row in Pass.objects.with_card()}
        return [
            f"{phone.device} shows {held.points} on {serial}"
            for phone in self.phones
            for serial, held in phone.passes.items()
            if any(newest[serial][name] != said for name, said in held.said.items() if name != "authenticationToken")
        ]

    def _adjust(self, card: Card, points: int) -> None:
        adjustments.adjust(
            merchant=card.program.merchant,
            card_id=card.pk,
            points=points,
            stamps=0,
            reason="a test",
            actor="ana",
            at=self.at(),
        )

    def _phone(self, device: str) -> Phone:
        return next(phone for phone in self.phones if phone.device == device)


@pytest.fixture
def web_service(live_server, apple_credential, wallet_settings):
    wallet_settings.PUBLIC_URL = live_server.url
    wallet_settings.LOYALTY_THROTTLES = {**wallet_settings.LOYALTY_THROTTLES, "wallet_registrations": 0}


def live(seed: int) -> World:
    """A world that comes to rest now and then, and is right whenever it does."""
    print(f"PHONES_SEED={seed}")
    world = World(seed)
    for _ in range(ROUNDS):
        for _ in range(STEPS):
            world.step()
        world.come_to_rest()
        assert world.differences() == []
    return world


@pytest.mark.parametrize("number", range(2))
def test_every_phone_ends_with_every_card_as_it_is(web_service, number):
    world = live(int(SEED) if SEED else random.randrange(10**9))

    assert world.fetched > 10
    assert sum(len(phone.passes) for phone in world.phones) > 5


@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_forty_worlds_end_well(web_service, number):
    assert live(random.randrange(10**9)).fetched > 10
