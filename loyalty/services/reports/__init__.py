"""What a back office and a till want to know, read from the ledger and the balances.

docs/reports.md defines each figure. Everything is of one merchant, in the merchant's own days and months, in one or
two statements; only the overview of all programs, for the dashboard, counts in UTC.
"""

from loyalty.services.reports.accounting import (
    Breakage,
    DayOfAccounting,
    Liability,
    MonthOfBreakage,
    PointsAccounting,
    breakage,
    liability,
    points_accounting,
)
from loyalty.services.reports.customers import (
    ActiveCustomers,
    CardAtRisk,
    Cohort,
    active_customers,
    cards_at_risk,
    cohorts,
)
from loyalty.services.reports.expiries import (
    DayOfExpiry,
    ExpiringByDate,
    UndeliveredWarning,
    expiring_by_date,
    undelivered_warnings,
)
from loyalty.services.reports.overview import (
    HORIZONS,
    DayOfPoints,
    Outstanding,
    Standing,
    outstanding,
    points_per_day,
)
from loyalty.services.reports.sales import (
    DayAtStore,
    MonthOfRevenue,
    Revenue,
    Takings,
    revenue,
    summary_of_day,
)
from loyalty.services.reports.staff import (
    Flag,
    Shortfall,
    StaffActivity,
    StaffMemberActivity,
    refund_shortfalls,
    staff_activity,
)

__all__ = [
    "HORIZONS",
    "ActiveCustomers",
    "Breakage",
    "CardAtRisk",
    "Cohort",
    "DayAtStore",
    "DayOfAccounting",
    "DayOfExpiry",
    "DayOfPoints",
    "ExpiringByDate",
    "Flag",
    "Liability",
    "MonthOfBreakage",
    "MonthOfRevenue",
    "Outstanding",
    "PointsAccounting",
    "Revenue",
    "Shortfall",
    "StaffActivity",
    "StaffMemberActivity",
    "Standing",
    "Takings",
    "UndeliveredWarning",
    "active_customers",
    "breakage",
    "cards_at_risk",
    "cohorts",
    "expiring_by_date",
    "liability",
    "outstanding",
    "points_accounting",
    "points_per_day",
    "refund_shortfalls",
    "revenue",
    "staff_activity",
    "summary_of_day",
    "undelivered_warnings",
]
