from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand, actor, usage
from loyalty.models import Store
from loyalty.services import keys
from loyalty.services.merchants import find_merchant

LONGEST_DAYS = 3650


class Command(LoyaltyCommand):
    help = (
        "Make a key for a user's programs, or for a till. Prints the key alone, for the only time: "
        "nothing that could show it again is kept. Changes data. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", metavar="USERNAME", help="whose key; it may do what the user may")
        parser.add_argument("--store", metavar="MERCHANT/STORECODE", help="make a key for a till of this store instead")
        parser.add_argument("--label", required=True, help="what it is for, to recognise it by")
        parser.add_argument("--days", type=int, help="how many days it is good for; otherwise until it is revoked")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["username"]) == bool(options["store"]):
            raise usage("Name either a user or, with --store, a store.")
        now = timezone.now()
        terms: dict[str, Any] = {"label": options["label"], "at": now, "expires_at": _end(options["days"], now)}
        issued: keys.IssuedKey[Any]
        if options["store"]:
            issued = keys.issue_store_key(store=_store(options["store"]), actor=actor(), **terms)
        else:
            issued = keys.issue_user_key(user=_user(options["username"]), **terms)
        self.stdout.write(issued.key)


def _end(days: int | None, now: datetime) -> datetime | None:
    if days is None:
        return None
    if not 1 <= days <= LONGEST_DAYS:
        raise usage(f"--days is from 1 to {LONGEST_DAYS}.")
    return now + timedelta(days=days)


def _user(name: str) -> User:
    found = User.objects.filter(username=name).first() if name.isprintable() else None
    if found is None:
        raise usage(f"There is no user {name!a}.")
    return found


def _store(name: str) -> Store:
    slug, _, code = name.partition("/")
    found = find_merchant(slug).stores.filter(code=code).first() if code.isascii() else None
    if found is None:
        raise usage(f"There is no store {name!a}; name it as MERCHANT/STORECODE.")
    return found
