"""Staff members who cannot sign in at their tills."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count

from loyalty.models import StaffMember
from loyalty_site.findings.finding import Finding

MOST_LOCKED = 2  # staff members of one merchant; one forgets a PIN, several mean that somebody guesses


def staff_findings(at: datetime) -> Iterator[Finding]:
    locked = StaffMember.objects.filter(is_active=True, locked_until__gt=at).values("merchant__slug")
    for row in locked.annotate(locked=Count("pk")).filter(locked__gt=MOST_LOCKED).order_by("merchant__slug"):
        yield Finding(
            "pins_locked",
            f"{row['locked']} staff members of {row['merchant__slug']} are locked out after wrong PINs. Ask the shop "
            "before you unlock them: several at once mean that somebody guesses.",
        )
