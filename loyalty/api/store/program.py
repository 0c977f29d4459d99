"""What a till shows about the program, and of the day."""

from loyalty import errors
from loyalty.api.operations import operation
from loyalty.api.store.answers import ProgramOut, RewardOut
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import Reward
from loyalty.services import at_till


class ProgramView(StoreView):
    @operation(
        name="store_program", summary="The program's rules", answer=ProgramOut, refusals=[errors.EnrolmentClosed]
    )
    def get(self, asked: AskedAtStore) -> at_till.ProgramAtTill:
        """With the campaigns that are running now in this store."""
        return at_till.shown_program(store=asked.store, at=asked.at)


class Rewards(StoreView):
    @operation(
        name="store_program_rewards",
        summary="Rewards on offer",
        answer=RewardOut,
        many=True,
        refusals=[errors.EnrolmentClosed],
    )
    def get(self, asked: AskedAtStore) -> list[Reward]:
        """Those that can be had today, the cheapest first."""
        return at_till.offered_rewards(store=asked.store, at=asked.at)
