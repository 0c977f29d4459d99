"""Google is told of each object whose card changed, and once of each class whose program did."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from django.conf import settings

from loyalty.models import Program
from wallet.content import Face, content_hash, look_of
from wallet.errors import SecretUnreadable, WalletNotConfigured
from wallet.google import bodies
from wallet.google.accounts import ServiceAccount
from wallet.google.client import GoogleWallet
from wallet.google.pacing import Pace
from wallet.models import Artwork, GoogleClass, Pass
from wallet.outcomes import DONE, Kind, Outcome
from wallet.services import addresses, opening
from wallet.services.claiming import Taken
from wallet.services.lanes import Call, in_database

# What Google asked of us outlives a run, so each process keeps its pace.
_paces: dict[tuple[str, int], Pace] = {}


def pace_of(issuer_id: str) -> Pace:
    """The pace of all calls that this process makes for an issuer."""
    per_second = settings.GOOGLE_REQUESTS_PER_SECOND
    return _paces.setdefault((issuer_id, per_second), Pace(per_second))


def google_wallet(issuer_id: str, account: ServiceAccount) -> GoogleWallet:
    """Google's API as this installation reaches it."""
    return GoogleWallet(
        url=settings.GOOGLE_WALLET_URL, token_url=settings.GOOGLE_TOKEN_URL, account=account, pace=pace_of(issuer_id)
    )


class GoogleTeller:
    """Tells Google about the objects of one issuer."""

    most_at_once = 20
    throttles_all = True

    def __init__(self, issuer_id: str) -> None:
        self.issuer_id = issuer_id
        self._classes: dict[int, Class] = {}
        self._one_at_a_time: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def ready(self, at: datetime) -> Outcome:
        try:
            self._account = opening.account(self.issuer_id)
        except (SecretUnreadable, WalletNotConfigured) as error:
            return Outcome(Kind.CREDENTIAL, error.code, error.sentence)
        return DONE

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        async with google_wallet(self.issuer_id, self._account) as self._wallet:
            yield

    async def probe(self) -> Outcome:
        return await self._wallet.probe(issuer_id=self.issuer_id)

    def tell(self, wallet_pass: Pass, face: Face) -> Mapping[str, Any]:
        class_id = bodies.class_id(self.issuer_id, wallet_pass.card.program_id)
        return bodies.object_body(face, object_id=wallet_pass.identifier, class_id=class_id)

    def first_calls(self) -> list[Call]:
        """Classes whose program looks otherwise than Google was told; their objects may be as they were."""
        behind = GoogleClass.objects.behind(self.issuer_id)
        programs = Program.objects.filter(pk__in=behind.values("program")).select_related("merchant")
        return [Call([], lambda known=known: self._put_class(known)) for known in self._know(programs)]  # type: ignore[misc]

    def calls(self, changed: Sequence[Taken]) -> list[Call]:
        self._know({one.wallet_pass.card.program for one in changed})
        return [Call([one], lambda one=one: self._put_object(one)) for one in changed]  # type: ignore[misc]

    def _know(self, programs: Any) -> list["Class"]:
        """What the classes of these programs are to show, and whether Google was told so."""
        new = [program for program in programs if program.pk not in self._classes]
        for program in new:
            self._classes[program.pk] = class_of(self.issuer_id, program)
        return [self._classes[program.pk] for program in programs]

    async def _put_object(self, one: Taken) -> Outcome:
        known = self._classes[one.wallet_pass.card.program_id]
        told = await self._put_class(known)
        if not told.is_done:
            return told
        return await self._wallet.put_object(
            one.wallet_pass.identifier,
            self.tell(one.wallet_pass, one.face),
            class_body=known.body,
            notify=one.points_moved,
        )

    async def _put_class(self, known: "Class") -> Outcome:
        """Tell Google about the class before its objects, unless it knows."""
        async with self._one_at_a_time[known.program_id]:
            if known.is_told:
                return DONE
            await in_database(known.note_unknown)()
            outcome = await self._wallet.put_class(known.class_id, known.body)
            if outcome.is_done:
                known.is_told = True
                await in_database(known.note_told)()
            return outcome


class Class:
    """What a program's class is to show."""

    def __init__(self, *, issuer_id: str, program: Program, logo: str, look: int) -> None:
        self.program_id = program.pk
        self.class_id = bodies.class_id(issuer_id, program.pk)
        self.look = look
        self.body = bodies.class_body(
            look_of(program, logo=logo),
            class_id=self.class_id,
            logo_url=addresses.logo(logo),
            callback_url=addresses.google_callback(),
        )
        self.hash = content_hash(self.body)
        row, _ = GoogleClass.objects.get_or_create(program=program, defaults={"class_id": self.class_id})
        self.is_told = row.content_hash == self.hash
        if self.is_told and row.synced_look < look:
            self.note_told()

    def note_unknown(self) -> None:
        """Nothing counts as known to Google until it says so: a call may arrive whose answer is lost."""
        GoogleClass.objects.filter(pk=self.program_id).update(content_hash="")

    def note_told(self) -> None:
        GoogleClass.objects.filter(pk=self.program_id).update(synced_look=self.look, content_hash=self.hash)


def class_of(issuer_id: str, program: Program) -> Class:
    """The class of a program, whose merchant is at hand, as it is to be now."""
    artwork = Artwork.objects.filter(program=program).values_list("digest", "version").first()
    logo, version = artwork or ("", 0)
    return Class(issuer_id=issuer_id, program=program, logo=logo, look=program.version + version)
