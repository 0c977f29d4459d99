"""Links by which a customer adds a pass to Google Wallet."""

from datetime import datetime

from wallet.google.accounts import ServiceAccount


def save_url(*, base: str, account: ServiceAccount, origin: str, object_id: str, class_id: str, at: datetime) -> str:
    """The address at Google where a customer adds the object, which Google must know already.

    It names the object and nothing of what it shows, so it stays under the 1,800 characters that browsers pass on.
    It is good as long as the account's key is: hand out links of our own that lead here.
    """
    claims = {
        "iss": account.email,
        "aud": "google",
        "typ": "savetowallet",
        "iat": int(at.timestamp()),
        "origins": [origin],
        "payload": {"loyaltyObjects": [{"id": object_id, "classId": class_id}]},
    }
    return f"{base}/{account.sign(claims)}"
