from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import REFUSED, ReasonedCommand, actor, usage
from loyalty.models import Customer, Merchant
from loyalty.services.adjustments import require_reason
from loyalty.services.merchants import find_merchant
from loyalty.services.privacy import ErasureReport, erase_customer, find_customer, preview_erasure


class Command(ReasonedCommand):
    help = (
        "Erase all personal data of a customer, for good. Without --confirm-id it only says what would go, and which "
        "id confirms it. The reason is kept and must not name the customer. Changes data. Exit codes: 0 erased, "
        "2 usage, 4 not confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("merchant", metavar="MERCHANT", help="slug or id")
        parser.add_argument("customer", metavar="CUSTOMER", help="id, e-mail address, phone number or card number")
        parser.add_argument("--confirm-id", type=int, metavar="N", help="the customer's id: erase now")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        merchant = find_merchant(options["merchant"])
        customer = find_customer(merchant=merchant, name=options["customer"])
        confirmed = options["confirm_id"] is not None
        report = self._report(merchant, customer, options)
        if options["json"]:
            self.print_json({"outcome": "erased" if confirmed else "not confirmed", **asdict(report)})
        else:
            self.stdout.write(_sentences(report, "were" if confirmed else "would be"))
        if not confirmed:
            self.stderr.write(
                f"Nothing was erased. To erase: manage.py erase_customer {merchant.slug} {customer.pk} "
                f"--reason TEXT --confirm-id {customer.pk}"
            )
            raise SystemExit(REFUSED)

    def _report(self, merchant: Merchant, customer: Customer, options: dict[str, Any]) -> ErasureReport:
        if options["confirm_id"] is None:
            require_reason(options["reason"])
            return preview_erasure(merchant=merchant, customer_id=customer.pk)
        if options["confirm_id"] != customer.pk:
            raise usage(f"--confirm-id is {options['confirm_id']}, but this is customer {customer.pk}.")
        return erase_customer(
            merchant=merchant, customer_id=customer.pk, reason=options["reason"], actor=actor(), at=timezone.now()
        )


def _sentences(report: ErasureReport, done: str) -> str:
    lines = [
        f"Of customer {report.customer_id}, {len(report.card_ids)} cards with {report.points} points and "
        f"{report.stamps} stamps {done} closed; {report.messages} messages {done} emptied; {report.answered_requests} "
        f"answers to requests and {report.import_lines} lines of imports {done} deleted."
    ]
    if report.merged_customer_ids:
        others = ", ".join(map(str, report.merged_customer_ids))
        lines.append(f"Cards were merged with those of customers {others}, who stay. Are they the same person?")
    return "\n".join(lines)
