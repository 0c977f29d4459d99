"""Calls to Google's API for classes and objects."""

import asyncio
import ssl
from collections.abc import Awaitable, Mapping
from functools import cache
from types import TracebackType
from typing import Any

import httpx2

from wallet.google.accounts import NoToken, ServiceAccount
from wallet.google.answers import Answer, outcome_of, read_answer
from wallet.google.pacing import Pace
from wallet.outcomes import Kind, Outcome

LOYALTY_CLASS, LOYALTY_OBJECT = "loyaltyClass", "loyaltyObject"
NOBODY = "probe"  # no class of ours has this name


class GoogleWallet:
    """Google's API, opened for one service account. Used with `async with`, by any number of tasks.

    Every request to the API waits for its turn of `pace`. What fails is an outcome and not an exception.
    """

    def __init__(
        self, *, url: str, token_url: str, account: ServiceAccount, pace: Pace, timeout_seconds: float = 10
    ) -> None:
        self.url = url
        self.token_url = token_url
        self.account = account
        self.pace = pace
        self.timeout_seconds = timeout_seconds

    async def __aenter__(self) -> "GoogleWallet":
        # How many calls go side by side is up to the caller: waiting here for a connection, they would miss their turn.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx2.AsyncClient(verify=_authorities(), timeout=self.timeout_seconds, limits=limits)
        self._signing_in: asyncio.Future[str] | None = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._signing_in:
            self._signing_in.cancel()
            await asyncio.gather(self._signing_in, return_exceptions=True)
        await self._http.aclose()

    async def put_class(self, class_id: str, body: Mapping[str, Any]) -> Outcome:
        """Make the class show this, whether or not Google knew it."""
        return await self._outcome_of(self._put(LOYALTY_CLASS, class_id, body))

    async def put_object(
        self, object_id: str, body: Mapping[str, Any], *, class_body: Mapping[str, Any], notify: bool
    ) -> Outcome:
        """Make the object show this, whether or not Google knew it and its class.

        With `notify` the customer is told, as often a day as Google allows; above that the change is made in silence.
        """
        return await self._outcome_of(self._put_object(object_id, body, class_body=class_body, notify=notify))

    async def probe(self, *, issuer_id: str) -> Outcome:
        """Whether Google takes the key and lets the account act for the issuer: reads a class that is not there."""
        return await self._outcome_of(self._read_nothing(issuer_id))

    async def _outcome_of(self, work: Awaitable[Answer]) -> Outcome:
        try:
            return outcome_of(await work)
        except NoToken as error:
            return error.outcome
        except httpx2.TimeoutException:
            return Outcome(Kind.TROUBLE, "timeout", f"Google did not answer within {self.timeout_seconds:g} seconds.")
        except httpx2.RequestError as error:
            return Outcome(Kind.TROUBLE, "connection", f"The connection to Google failed ({type(error).__name__}).")

    async def _put_object(
        self, object_id: str, body: Mapping[str, Any], *, class_body: Mapping[str, Any], notify: bool
    ) -> Answer:
        answer = await self._put(LOYALTY_OBJECT, object_id, body, notify=notify)
        if answer.status != 404:
            return answer
        # An object that cannot even be inserted has no class.
        answer = await self._insert(LOYALTY_CLASS, str(body["classId"]), class_body)
        return await self._insert(LOYALTY_OBJECT, object_id, body) if answer.status == 200 else answer

    async def _put(self, kind: str, resource_id: str, body: Mapping[str, Any], *, notify: bool = False) -> Answer:
        answer = await self._patch(kind, resource_id, body, notify=notify)
        return await self._insert(kind, resource_id, body) if answer.status == 404 else answer

    async def _patch(self, kind: str, resource_id: str, body: Mapping[str, Any], *, notify: bool = False) -> Answer:
        path = f"{kind}/{resource_id}"
        if notify:
            answer = await self._call("PATCH", path, {**body, "notifyPreference": "NOTIFY_ON_UPDATE"})
            if not answer.is_notification_quota:
                return answer
        return await self._call("PATCH", path, body)

    async def _insert(self, kind: str, resource_id: str, body: Mapping[str, Any]) -> Answer:
        """Insert what is new, or patch what somebody else inserted a moment ago."""
        answer = await self._call("POST", kind, {name: value for name, value in body.items() if value is not None})
        return await self._patch(kind, resource_id, body) if answer.status == 409 else answer

    async def _read_nothing(self, issuer_id: str) -> Answer:
        answer = await self._call("GET", f"{LOYALTY_CLASS}/{issuer_id}.{NOBODY}")
        return Answer(200) if answer.status == 404 else answer

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One request; when the token has ended early, a second one with a new token."""
        token = await self._token()
        answer = await self._request(method, path, body, token=token)
        if answer.status == 401:
            self.account.forget_token(self.token_url, token)
            answer = await self._request(method, path, body, token=await self._token())
        self._mind(answer)
        return answer

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None, *, token: str) -> Answer:
        await self.pace.turn()
        headers = {"Authorization": f"Bearer {token}"}
        response = await self._http.request(method, f"{self.url}/{path}", json=body, headers=headers)
        return read_answer(response, sent=body)

    async def _token(self) -> str:
        """A token; tasks that want one at the same time share one exchange, and its failure."""
        if token := self.account.kept_token(self.token_url):
            return token
        if self._signing_in is None or self._signing_in.done():
            exchange = self.account.access_token(http=self._http, token_url=self.token_url)
            self._signing_in = asyncio.ensure_future(exchange)
        return await asyncio.shield(self._signing_in)

    def _mind(self, answer: Answer) -> None:
        """Learn from an answer how fast to go on."""
        if answer.is_quota and not answer.is_notification_quota:
            self.pace.slow_down(answer.retry_after_seconds)
        elif answer.status == 200:
            self.pace.recover()


@cache
def _authorities() -> ssl.SSLContext:
    # Reading them takes a tenth of a second, and a client is opened for every link that a customer follows.
    return httpx2.create_ssl_context()
