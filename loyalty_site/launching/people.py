"""Who signs in, and who is there to be served."""

from collections.abc import Iterator

from django.contrib.auth import get_user_model

from loyalty.models import Program
from loyalty_site import demo_data
from loyalty_site.findings import Finding


def people_findings() -> Iterator[Finding]:
    yield from _admins()
    yield from _merchants()
    if demo_data.is_seeded():
        yield Finding(
            "demo_data_present",
            f"The demo's merchant {demo_data.SLUG} is in this database, and its ledger cannot be deleted. Begin with "
            "an empty database.",
        )


def _admins() -> Iterator[Finding]:
    admins = get_user_model().objects.filter(is_superuser=True, is_active=True)
    if not any(admin.has_usable_password() for admin in admins):
        yield Finding(
            "admin_missing", "No administrator can sign in. Run manage.py createsuperuser, or changepassword for one."
        )


def _merchants() -> Iterator[Finding]:
    programs = Program.objects.filter(merchant__is_active=True, is_active=True)
    found = list(programs.select_related("merchant").order_by("merchant__slug"))
    if not found:
        yield Finding("merchant_missing", "There is no merchant with an active program. Make one in the admin.")
    for program in found:
        missing = [
            name
            for name, is_there in (
                ("no terms", program.terms_url or program.terms_text),
                ("no privacy URL", program.privacy_url),
                ("no support address", program.merchant.support_email),
            )
            if not is_there
        ]
        if missing:
            yield Finding(
                "merchant_incomplete",
                f"Merchant {program.merchant.slug} has {_listed(missing)} yet. In the admin, terms and privacy URL are "
                "set in the program, the support address in the merchant.",
            )


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
