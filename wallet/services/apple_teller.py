"""Apple's phones are told by a push that there is something to fetch: one push for all the passes of a phone."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from django.conf import settings

from wallet.apple.pushing import PushConnection
from wallet.apple.signing import Signer
from wallet.content import Face
from wallet.errors import SecretUnreadable, WalletNotConfigured
from wallet.models import Pass, Registration
from wallet.outcomes import DONE, Kind, Outcome
from wallet.services import opening
from wallet.services.claiming import Taken
from wallet.services.lanes import Call
from wallet.services.rendering import told_to_apple


def push_connection(pass_type: str, signer: Signer) -> PushConnection:
    """The connection to Apple as this installation makes it."""
    return PushConnection(
        url=settings.APPLE_PUSH_URL,
        ca_file=settings.APPLE_PUSH_CA_FILE,
        signer=signer,
        topic=pass_type,
        push_type=settings.APPLE_PUSH_TYPE,
        priority=settings.APPLE_PUSH_PRIORITY,
    )


class AppleTeller:
    """Tells phones about the passes of one pass type."""

    most_at_once = 100
    throttles_all = False

    def __init__(self, pass_type: str) -> None:
        self.pass_type = pass_type

    def ready(self, at: datetime) -> Outcome:
        """Apple answers an expired certificate like a broken wire, so its end is looked at here."""
        try:
            signer = opening.signer(self.pass_type)
            self._pushes = push_connection(self.pass_type, signer)
        except (SecretUnreadable, WalletNotConfigured) as error:
            return Outcome(Kind.CREDENTIAL, error.code, error.sentence)
        if signer.is_valid(at):
            return DONE
        return Outcome(
            Kind.CREDENTIAL,
            "certificate_expired",
            f"The certificate of {self.pass_type} is valid from {signer.valid_from:%Y-%m-%d %H:%M} "
            f"to {signer.expires_at:%Y-%m-%d %H:%M} UTC. Import and activate its successor.",
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        async with self._pushes:
            yield

    async def probe(self) -> Outcome:
        return await self._pushes.probe()

    def tell(self, wallet_pass: Pass, face: Face) -> Mapping[str, Any]:
        return told_to_apple(wallet_pass, face)

    def first_calls(self) -> list[Call]:
        return []

    def calls(self, changed: Sequence[Taken]) -> list[Call]:
        by_pass = {one.wallet_pass.pk: one for one in changed}
        about: defaultdict[str, list[Taken]] = defaultdict(list)
        registrations = Registration.objects.filter(wallet_pass__in=by_pass)
        for pass_id, push_token in registrations.order_by("pk").values_list("wallet_pass_id", "push_token"):
            about[push_token].append(by_pass[pass_id])
        return [self._call(push_token, passes) for push_token, passes in about.items()]

    def _call(self, push_token: str, about: list[Taken]) -> Call:
        return Call(about, lambda: self._pushes.push(push_token), lambda outcome: self._forget(push_token, outcome))

    def _forget(self, push_token: str, outcome: Outcome) -> None:
        """Delete the registrations of a phone that is gone, unless it came back since."""
        gone = Registration.objects.filter(push_token=push_token, wallet_pass__issued_under=self.pass_type)
        if outcome.gone_at is not None:
            gone = gone.filter(registered_at__lte=outcome.gone_at)
        gone.delete()
