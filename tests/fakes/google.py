"""A real HTTP server on loopback that keeps classes and objects by Google's rules, and misbehaves when told to.

    with FakeGoogle(account) as google:
        google.when(429, to=object_id, times=1, retry_after="2")

It stands for the token endpoint, for loyaltyClass and loyaltyObject with get, insert and patch, and for the keys that
callbacks are signed with. Bodies that Google's own schema does not allow are refused with 400.
"""

import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from tests.fakes.google_callbacks import CallbackSigner
from tests.fakes.google_rules import CUT, OK, REASONS, Call, Rule
from tests.fakes.google_store import Refused, Store
from tests.fakes.google_tokens import Tokens
from tests.fakes.pki import ISSUER_ID

BASE = "/walletobjects/v1"
PATH = re.compile(rf"{BASE}/(loyaltyClass|loyaltyObject)(?:/([^/]+))?")


class FakeGoogle:
    """The server, trusting the keys of these service accounts."""

    def __init__(self, *accounts: bytes, issuer_id: str = ISSUER_ID) -> None:
        self.issuer_id = issuer_id
        self.store = Store(issuer_id)
        self.calls: list[Call] = []  # of the API
        self.token_calls: list[Call] = []
        self.keys_calls: list[Call] = []
        self.tokens = Tokens(*accounts)
        self.keys_seconds = 3600
        self.signer = CallbackSigner(issuer_id)
        self.rules: list[Rule] = []
        self.guard = threading.RLock()

    def __enter__(self) -> "FakeGoogle":
        self._server = _Server(self)
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.01,), name="fake-google", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.drop_connections()
        self._server.server_close()

    @property
    def classes(self) -> dict[str, dict[str, Any]]:
        return self.store.kept["loyaltyClass"]

    @property
    def objects(self) -> dict[str, dict[str, Any]]:
        return self.store.kept["loyaltyObject"]

    @property
    def notified(self) -> dict[str, int]:
        """How often the customers of each object were told of a change."""
        return self.store.notified

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root_url}{BASE}"

    @property
    def token_url(self) -> str:
        return f"{self.root_url}/token"

    @property
    def keys_url(self) -> str:
        return f"{self.root_url}/keys"

    def trust(self, account: bytes) -> None:
        """Take assertions by this key of a service account from now on."""
        self.tokens.trust(account)

    def distrust(self, account: bytes) -> None:
        """As after the key was deleted: no token for it any more. Tokens that are out stay good."""
        self.tokens.distrust(account)

    def end_tokens(self) -> None:
        """Take none of the tokens that are out."""
        self.tokens.out.clear()

    def when(
        self,
        status: int,
        *,
        on: str | None = None,
        to: str | None = None,
        method: str | None = None,
        times: int | None = None,
        reason: str = "",
        message: str = "",
        retry_after: str | None = None,
        delay_seconds: float = 0,
    ) -> None:
        """Answer with this status, a refusal, CUT, or OK after a delay: always or so many times.

        `on`: class, object, token or keys; left out, each call of the API. `to`: the id of a class or an object. For
        the token endpoint `reason` and `message` are OAuth's error and its description.
        """
        self.rules.append(Rule(status, on, to, method, times, reason, message, retry_after, delay_seconds))

    def behave(self) -> None:
        self.rules.clear()

    def most_in_a_second(self) -> int:
        """The largest number of calls of the API in any second, wherever it begins."""
        moments = sorted(call.at for call in self.calls)
        return max((sum(start <= at < start + 1 for at in moments) for start in moments), default=0)

    def callback(self, event: str, object_id: str, **options: Any) -> bytes:
        """The body of a callback about an object: `save` or `del`. Options as for `CallbackSigner.callback`."""
        class_id = self.objects.get(object_id, {}).get("classId", f"{self.issuer_id}.class")
        return self.signer.callback(event, object_id, **{"class_id": class_id, **options})

    def rule_for(self, method: str, kind: str, resource_id: str) -> Rule | None:
        with self.guard:
            return next((rule for rule in self.rules if rule.applies(method, kind, resource_id)), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, google: FakeGoogle) -> None:
        self.google = google
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have gone away are no news; what else goes wrong is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def drop_connections(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the calls are kept."""

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def do_PATCH(self) -> None:
        self.serve()

    def serve(self) -> None:
        at, google = time.monotonic(), self.server.google
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        kind, resource_id, body = self.asked(content)
        call = Call(at, self.command, kind, resource_id, body)
        {"token": google.token_calls, "keys": google.keys_calls}.get(kind, google.calls).append(call)
        rule = google.rule_for(self.command, kind, resource_id)
        if rule and rule.delay_seconds:
            time.sleep(rule.delay_seconds)
        headers: dict[str, str] = {}
        try:
            status, answer = 200, self.answer(kind, resource_id, body, content, rule)
            if kind == "keys":
                headers["Cache-Control"] = f"public, max-age={google.keys_seconds}"
        except Refused as refusal:
            status, answer, headers = refusal.status, _told(kind, refusal), refusal.headers
        call.status = status
        if status == CUT:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send(status, answer, headers)

    def asked(self, content: str) -> tuple[str, str, Any]:
        """Kind, id and body of the request."""
        if self.path in ("/token", "/keys"):
            return self.path[1:], "", None
        found = PATH.fullmatch(self.path.partition("?")[0])
        body = json.loads(content) if content else None
        if not found:
            return "unknown", "", body
        resource_id = unquote(found[2] or "") or str((body or {}).get("id", ""))
        return found[1].removeprefix("loyalty").lower(), resource_id, body

    def answer(self, kind: str, resource_id: str, body: Any, content: str, rule: Rule | None) -> dict[str, Any]:
        google = self.server.google
        if rule and rule.status != OK:
            reason, message = REASONS.get(rule.status, ("backendError", "The service is currently unavailable."))
            headers = {"Retry-After": rule.retry_after} if rule.retry_after else {}
            raise Refused(rule.status, rule.reason or reason, rule.message or message, headers)
        with google.guard:
            if kind == "token":
                return google.tokens.grant(content)
            if kind == "keys":
                return google.signer.keys()
            if self.headers.get("Authorization", "").removeprefix("Bearer ") not in google.tokens.out:
                raise Refused(401, *REASONS[401])
            return self.act(kind, resource_id, body)

    def act(self, kind: str, resource_id: str, body: Any) -> dict[str, Any]:
        store, name = self.server.google.store, f"loyalty{kind.capitalize()}"
        if kind == "unknown":
            raise Refused(404, "notFound", f"There is nothing at {self.path}.")
        if self.command == "GET":
            return store.get(name, resource_id)
        return store.insert(name, body) if self.command == "POST" else store.patch(name, resource_id, body)

    def send(self, status: int, answer: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _told(kind: str, refusal: Refused) -> dict[str, Any]:
    if kind == "token":
        return {"error": refusal.reason, "error_description": refusal.message}
    item = {"message": refusal.message, "domain": "walletobjects", "reason": refusal.reason}
    return {"error": {"code": refusal.status, "message": refusal.message, "errors": [item]}}
