import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand, usage
from loyalty.services.merchants import find_merchant
from loyalty.services.privacy import export_customer, find_customer

OWNER_ONLY = 0o600


class Command(LoyaltyCommand):
    help = (
        "Print everything that is held about a customer as JSON. The customer is named by id, e-mail address, phone "
        "number (+352...) or card number. Changes nothing. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("merchant", metavar="MERCHANT", help="slug or id")
        parser.add_argument("customer", metavar="CUSTOMER", help="id, e-mail address, phone number or card number")
        parser.add_argument("--output", type=Path, metavar="FILE", help="a new file, which only you may read")

    def handle(self, *args: Any, **options: Any) -> None:
        merchant = find_merchant(options["merchant"])
        customer = find_customer(merchant=merchant, name=options["customer"])
        document = export_customer(merchant=merchant, customer_id=customer.pk, at=timezone.now())
        if options["output"] is None:
            self.print_json(document)
            return
        _write(options["output"], document)
        self.stdout.write(f"Wrote what is held about customer {customer.pk} to {options['output']}.")


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise usage(f"{str(path)!a} cannot be written: {error.strerror}.") from None
