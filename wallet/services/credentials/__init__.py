"""Credentials come in as versions, are tried, take over from each other, and are watched."""

from wallet.services.credentials.activating import activate, revoke, rollback
from wallet.services.credentials.checking import CheckReport, check_credentials, probe
from wallet.services.credentials.importing import import_apple, import_google, import_wwdr
from wallet.services.credentials.keeping import require_usable_files, reseal_all

__all__ = [
    "CheckReport",
    "activate",
    "check_credentials",
    "import_apple",
    "import_google",
    "import_wwdr",
    "probe",
    "require_usable_files",
    "reseal_all",
    "revoke",
    "rollback",
]
