"""An iPhone, as far as its wallet is concerned: it believes what a pass says, and asks where the pass says."""

import http.client
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from zipfile import ZipFile

TIMEOUT_SECONDS = 30
MEDIA_TYPE = "application/vnd.apple.pkpass"


@dataclass(frozen=True)
class Answer:
    """What came back over the wire."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class HeldPass:
    """A pass in the phone. `last_modified` is what came with it, word for word; a pass from a link has none."""

    package: bytes
    last_modified: str = ""
    said: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        with ZipFile(BytesIO(self.package)) as package:
            self.said = json.loads(package.read("pass.json"))

    @property
    def serial(self) -> str:
        return str(self.said["serialNumber"])

    @property
    def pass_type(self) -> str:
        return str(self.said["passTypeIdentifier"])

    @property
    def points(self) -> Any:
        """What stands on the front."""
        return self.said["storeCard"]["primaryFields"][0]["value"]


class Phone:
    """A phone with its passes. Whoever pushes to `push_token` has to call `pushed`."""

    def __init__(self) -> None:
        self.device = secrets.token_hex(16)
        self.push_token = secrets.token_hex(32)
        self.passes: dict[str, HeldPass] = {}
        self.tags: dict[tuple[str, str], str] = {}

    def add(self, package: bytes) -> HeldPass:
        """Take a pass, and ask to be told of its changes."""
        held = self.take(package)
        self.register(held.serial)
        return held

    def take(self, package: bytes) -> HeldPass:
        """Take a pass, and be without a network for the rest."""
        held = HeldPass(package)
        self.passes[held.serial] = held
        return held

    def register(self, serial: str) -> int:
        """Ask to be told of changes. Returns the status of the answer."""
        held = self.passes[serial]
        answer = self.ask(held, "POST", self.registration_of(held), body={"pushToken": self.push_token})
        assert answer.status in (200, 201), answer
        return answer.status

    def remove(self, serial: str) -> None:
        """Throw a pass away."""
        held = self.passes.pop(serial)
        answer = self.ask(held, "DELETE", self.registration_of(held))
        assert answer.status == 200, answer

    def pushed(self) -> list[str]:
        """What a phone does after a push: ask what has changed, and fetch that. Returns the serials it fetched."""
        changed = [serial for place in self._places() for serial in self.list_changes(*place)]
        return [serial for serial in changed if serial in self.passes and self.fetch(serial)]

    def list_changes(self, service: str, pass_type: str) -> list[str]:
        """The serial numbers of passes that changed since the last answer."""
        since = self.tags.get((service, pass_type))
        query = f"?{urlencode({'passesUpdatedSince': since})}" if since is not None else ""
        path = f"/v1/devices/{self.device}/registrations/{quote(pass_type)}{query}"
        answer = ask(service, "GET", path)
        if answer.status == 204:
            return []
        assert answer.status == 200, answer
        found = answer.json()
        if isinstance(found["lastUpdated"], str):  # a phone throws away anything else, and then never fetches
            self.tags[service, pass_type] = found["lastUpdated"]
            return [str(serial) for serial in found["serialNumbers"]]
        return []

    def fetch(self, serial: str) -> bool:
        """Get the pass anew unless it is as it was. Returns whether it was another."""
        held = self.passes[serial]
        known = {"If-Modified-Since": held.last_modified} if held.last_modified else {}
        path = f"/v1/passes/{quote(held.pass_type)}/{quote(held.serial)}"
        answer = self.ask(held, "GET", path, headers=known)
        if answer.status == 304:
            return False
        assert (answer.status, answer.headers["Content-Type"]) == (200, MEDIA_TYPE), answer
        self.passes[serial] = HeldPass(answer.content, answer.headers["Last-Modified"])
        return True

    def registration_of(self, held: HeldPass) -> str:
        return f"/v1/devices/{self.device}/registrations/{quote(held.pass_type)}/{quote(held.serial)}"

    def ask(
        self, held: HeldPass, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request in the name of a pass."""
        token = {"Authorization": f"ApplePass {held.said['authenticationToken']}"}
        return ask(held.said["webServiceURL"], method, path, body=body, headers={**token, **(headers or {})})

    def _places(self) -> list[tuple[str, str]]:
        """The web services of the passes, and the types that each has here."""
        return sorted({(str(held.said["webServiceURL"]), held.pass_type) for held in self.passes.values()})


def ask(service: str, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request to a web service. A body that is no bytes is sent as JSON."""
    parts = urlsplit(service)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT_SECONDS)
    try:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        content_type = {"Content-Type": "application/json"} if sent is not None else {}
        connection.request(method, parts.path + path, sent, {**content_type, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()
