"""What is held about a customer: given out as data, or erased. The verbs: `export_customer`, `erase_customer`."""

from loyalty.services.privacy.erasing import ErasureReport, erase_customer, preview_erasure
from loyalty.services.privacy.exporting import export_customer
from loyalty.services.privacy.held import find_customer, held_about, held_above

__all__ = [
    "ErasureReport",
    "erase_customer",
    "export_customer",
    "find_customer",
    "held_about",
    "held_above",
    "preview_erasure",
]
