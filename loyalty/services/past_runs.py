"""What expiration runs did to the cards of one merchant."""

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import JSONObject

from loyalty.models import ExpirationRun, Merchant, Transaction, TransactionType


def runs_over(*, merchant: Merchant) -> QuerySet[ExpirationRun]:
    """Runs that took in this merchant: its own, and those over all. `took` is what each took from its cards alone.

    `took` has the keys `cards` and `points`; it is None where a run took nothing.
    """
    expiries = Transaction.objects.filter(
        expiration_run=OuterRef("pk"), type=TransactionType.POINTS_EXPIRED, merchant=merchant
    )
    # One pass over the rows of a run for both figures.
    sums = expiries.values("expiration_run").annotate(sums=JSONObject(cards=Count("pk"), points=-Sum("points_delta")))
    runs = ExpirationRun.objects.filter(Q(merchant=merchant) | Q(merchant=None))
    return runs.annotate(took=Subquery(sums.values("sums")))
