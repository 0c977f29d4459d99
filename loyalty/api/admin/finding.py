"""What the paths and bodies of the admin API name, found only where the user may do what was asked."""

from loyalty.api.views import AskedByUser
from loyalty.errors import CardNotFound
from loyalty.models import Card


def find_card(asked: AskedByUser, card_id: int) -> Card:
    """The card with all that is shown of it.

    Raises:
        CardNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    cards = Card.objects.select_related("balance", "customer", "program__merchant")
    return asked.find(cards, card_id, "program__merchant", CardNotFound("This card is not known here."))
