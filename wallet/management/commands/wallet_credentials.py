import sys
from datetime import datetime
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import FINDING, LoyaltyCommand, actor, usage
from wallet.apple import certificates
from wallet.errors import CredentialNotFound
from wallet.models import Credential, Platform
from wallet.services import credentials, opening

WARNED_DAYS_LEFT = 45


class Command(LoyaltyCommand):
    help = (
        "Bring in, list, show, check, activate, roll back, revoke and reseal the credentials of Apple and Google "
        "Wallet. Shows no secret. Exit codes: 0 done, 1 a check failed, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        self._add_import(actions.add_parser("import", help="keep a new version, without using it yet"))
        for name, says in (("list", "all versions"), ("check", "try every active one against its platform")):
            actions.add_parser(name, help=says).add_argument("--json", action="store_true")
        for name, says in (("activate", "use a version from now on"), ("revoke", "never use a version again")):
            actions.add_parser(name, help=says).add_argument("number", type=int, help="as `list` shows it")
        shown = actions.add_parser("show", help="print a version's certificate, which is public, in PEM")
        shown.add_argument("number", type=int, help="as `list` shows it")
        back = actions.add_parser("rollback", help="go back to the version before")
        back.add_argument("platform", choices=Platform.values)
        back.add_argument("--identifier", help="of which pass type or issuer; otherwise that of the settings")
        actions.add_parser("reseal", help="seal all secrets with the first key of WALLET_ENCRYPTION_KEYS")

    def _add_import(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=Credential.Kind.values)
        parser.add_argument("file", nargs="?", metavar="FILE", help="a .p12 file, a certificate, or Google's JSON")
        parser.add_argument("--key", metavar="FILE", help="the key of a certificate, in PEM")
        parser.add_argument("--secret-file", metavar="FILE", help="the key, or Google's JSON, which stays in this file")
        parser.add_argument("--password-file", metavar="FILE", help="what opens it; otherwise you are asked")

    def handle(self, *args: Any, **options: Any) -> None:
        act = {
            "import": self._import,
            "list": self._list,
            "check": self._check,
            "activate": self._activate,
            "revoke": self._revoke,
            "show": self._show,
            "rollback": self._rollback,
            "reseal": self._reseal,
        }
        act[options["action"]](options, timezone.now())

    def _import(self, options: dict[str, Any], now: datetime) -> None:
        credential = brought_in(options, now)
        if credential.imported_at < now:
            self.stdout.write(f"Back in use: number {credential.pk}, {credential}.")
            return
        self.stdout.write(f"Imported as number {credential.pk}: {credential}.")
        days = credential.days_left(now)
        if days is not None and days < WARNED_DAYS_LEFT:
            self.stderr.write(f"It has only {days} days left; see to the next one soon.")
        if credential.kind != Credential.Kind.WWDR:
            self.stdout.write(f"Use it with: manage.py wallet_credentials activate {credential.pk}")

    def _list(self, options: dict[str, Any], now: datetime) -> None:
        rows = Credential.objects.order_by("kind", "identifier", "version")
        if options["json"]:
            self.print_json([described(row, now) for row in rows])
        for row in rows if not options["json"] else ():
            self.stdout.write(line(row, now))

    def _check(self, options: dict[str, Any], now: datetime) -> None:
        report = credentials.check_credentials(at=now)
        active = Credential.objects.active().order_by("kind", "identifier")
        if options["json"]:
            self.print_json([described(row, now) for row in active])
        for row in active if not options["json"] else ():
            self.stdout.write(f"{line(row, now)}  {row.check_error or 'works'}")
        if report.failed_credential_ids:
            raise SystemExit(FINDING)

    def _show(self, options: dict[str, Any], now: datetime) -> None:
        found = Credential.objects.filter(pk=options["number"]).first()
        if found is None:
            raise CredentialNotFound(f"There is no credential {options['number']}.")
        if not found.certificate:
            raise usage(f"{found} is a key, and shows itself to nobody.")
        self.stdout.write(found.certificate.strip())

    def _activate(self, options: dict[str, Any], now: datetime) -> None:
        credential = credentials.activate(credential_id=options["number"], actor=actor(), at=now)
        self.stdout.write(f"In use: {credential}.")

    def _rollback(self, options: dict[str, Any], now: datetime) -> None:
        identifier = options["identifier"] or opening.issued_under(options["platform"])
        if not identifier:
            raise usage("The settings name no pass type and no issuer for it. Say which one with --identifier.")
        credential = credentials.rollback(kind=options["platform"], identifier=identifier, actor=actor(), at=now)
        self.stdout.write(f"In use: {credential}.")

    def _revoke(self, options: dict[str, Any], now: datetime) -> None:
        credential = credentials.revoke(credential_id=options["number"])
        said = "No longer in use" if credential.kind == Credential.Kind.WWDR else "Never used again"
        self.stdout.write(f"{said}: {credential}.")

    def _reseal(self, options: dict[str, Any], now: datetime) -> None:
        self.stdout.write(f"Secrets sealed with the newest key: {credentials.reseal_all()}")


def brought_in(options: dict[str, Any], now: datetime) -> Credential:
    """What the files of the command line hold, as a new version."""
    if options["kind"] == Credential.Kind.GOOGLE:
        return google_of(options, now)
    if not options["file"]:
        raise usage("Name the file of the certificate.")
    if options["kind"] == Credential.Kind.WWDR:
        if options["key"] or options["secret_file"] or options["password_file"]:
            raise usage("An intermediate has no key here. Leave out --key, --secret-file and --password-file.")
        return credentials.import_wwdr(certificate=read(options["file"]), actor=actor(), at=now)
    return apple_of(options, now)


def google_of(options: dict[str, Any], now: datetime) -> Credential:
    path, secret_file = options["file"], options["secret_file"]
    if options["key"] or options["password_file"]:
        raise usage("Google's JSON holds its key, and has no password. Leave out --key and --password-file.")
    if bool(path) == bool(secret_file):
        raise usage("Name the JSON file, either by itself or, when it is to stay where it is, with --secret-file.")
    if secret_file:
        return credentials.import_google(secret_file=secret_file, actor=actor(), at=now)
    return credentials.import_google(content=read(path), actor=actor(), at=now)


def apple_of(options: dict[str, Any], now: datetime) -> Credential:
    content, secret_file = read(options["file"]), options["secret_file"]
    if options["key"] and secret_file:
        raise usage("Give the key either with --key or, when it is to stay where it is, with --secret-file.")
    if secret_file:
        return credentials.import_apple(certificate=content, secret_file=secret_file, actor=actor(), at=now)
    if not options["key"]:
        if certificates.is_certificate(content):
            raise usage("This is no .p12 file; name its key with --key or --secret-file.")
        return credentials.import_apple(p12=content, password=password(options), actor=actor(), at=now)
    key = read(options["key"])
    opens = password(options) if b"ENCRYPTED" in key else b""
    return credentials.import_apple(certificate=content, key=key, password=opens, actor=actor(), at=now)


def password(options: dict[str, Any]) -> bytes:
    """What opens a file: never an argument, which every process of the machine could read."""
    if options["password_file"]:
        return read(options["password_file"]).rstrip(b"\r\n")
    if not sys.stdin.isatty():
        raise usage("Nobody can be asked for the password here; give it with --password-file.")
    return getpass("Password of the file: ").encode(errors="surrogateescape")


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}.") from None


def described(credential: Credential, now: datetime) -> dict[str, Any]:
    """What programs may know of a credential: nothing that opens anything."""
    return {
        "id": credential.pk,
        "kind": credential.kind,
        "identifier": credential.identifier,
        "version": credential.version,
        "status": credential.status,
        "subject": credential.subject,
        "serial": credential.serial,
        "fingerprint": credential.fingerprint,
        "valid_from": credential.valid_from.isoformat(),
        "valid_until": credential.valid_until.isoformat() if credential.valid_until else None,
        "days_left": credential.days_left(now),
        "secret_file": credential.secret_file,
        "checked_at": credential.checked_at.isoformat() if credential.checked_at else None,
        "check_error": credential.check_error,
    }


def line(credential: Credential, now: datetime) -> str:
    return f"{credential.pk:>4}  {credential}  {credential.get_status_display().lower()}  {credential.lasts(now)}"
