"""A tenant's client of the application over HTTP: it signs in, follows its tenant, and comes again where it is told to."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import requests

from include.local.saas.api import Found, Page, Written, table_named
from include.local.saas.documents import dumps, from_document
from include.local.saas.errors import Fenced, Forbidden, NotFound, Refused, Unauthorized, Unclear
from include.local.saas.web import EPOCH_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.local.saas.logins import Login
    from include.tenants.clients import Clients

_TIMEOUT_SECONDS: Final = 30.0
_MOST_HOPS: Final = 4


@dataclass(frozen=True)
class _Session:
    """Where a tenant is, as far as its client knows, and the token to go there."""

    api_url: str
    token: str


class HttpApi:
    """`include.local.saas.load.Api` over HTTP. Used by many threads.

    Args:
        url: where the application answers, without a path.
        clients: of AWS, to sign in.
        logins: by tenant.
    """

    def __init__(self, url: str, clients: Clients, logins: Mapping[str, Login]) -> None:
        self._url = url
        self._cognito = clients.cognito
        self._logins = logins
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def put(self, tenant_id: str, table: str, key: str | None, body: Mapping[str, Any]) -> Written:
        """Create or replace an item."""
        return self._written(self._ask(tenant_id, "POST", _path(table), {"key": key} if key else {}, body))

    def update(self, tenant_id: str, table: str, key: str, body: Mapping[str, Any]) -> Written:
        """Replace an item."""
        return self._written(self._ask(tenant_id, "PUT", _path(table, key), {}, body))

    def delete(self, tenant_id: str, table: str, key: str) -> Written:
        """Delete an item."""
        return self._written(self._ask(tenant_id, "DELETE", _path(table, key), {}))

    def get(self, tenant_id: str, table: str, key: str) -> Found:
        """Read an item."""
        answer = self._ask(tenant_id, "GET", _path(table, key), {})
        return Found(_item(table, _document(answer)["item"]), _epoch(answer))

    def list(self, tenant_id: str, table: str, *, limit: int = 100, after: str | None = None) -> Page:
        """Read a page of items."""
        answer = self._ask(tenant_id, "GET", _path(table), {"limit": str(limit), **({"after": after} if after else {})})
        document = _document(answer)
        return Page([_item(table, each["item"]) for each in document["items"]], document["after"], _epoch(answer))

    def sign_in(self, tenant_id: str) -> None:
        """Sign in anew, wherever the tenant is now. Users of a tenant that has moved bring their passwords along so."""
        self._sign_in(tenant_id)

    def _written(self, answer: requests.Response) -> Written:
        return Written(str(_document(answer)["key"]), _epoch(answer))

    def _ask(
        self,
        tenant_id: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        signed_in = False
        for _ in range(_MOST_HOPS):
            session = self._sessions.get(tenant_id) or self._sign_in(tenant_id)
            try:
                answer = self._http().request(
                    method,
                    session.api_url + path,
                    params=query,
                    data=None if body is None else dumps(dict(body)).encode(),
                    headers={"Authorization": f"Bearer {session.token}", "Content-Type": "application/json"},
                    timeout=_TIMEOUT_SECONDS,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise Unclear(f"{method} {path}: {error}") from error
            if answer.status_code == 308:
                self._keep(tenant_id, _Session(answer.headers["Location"].partition(path)[0], session.token))
            elif answer.status_code == 401 and not signed_in:
                signed_in = True  # the pool is another one by now, or the token is too old
                self._sign_in(tenant_id)
            else:
                return _checked(answer)
        raise Unauthorized(f"tenant {tenant_id} was sent on {_MOST_HOPS} times; the last answer: {answer.text}")

    def _sign_in(self, tenant_id: str) -> _Session:
        login = self._logins[tenant_id]
        try:
            where = self._http().get(f"{self._url}/tenant/init/{tenant_id}", timeout=_TIMEOUT_SECONDS).json()
            tokens = self._cognito.initiate_auth(
                ClientId=where["appClientId"],
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": login.user, "PASSWORD": login.password},
            )["AuthenticationResult"]
        except requests.RequestException as error:
            raise Unclear(f"sign in of {login.user}: {error}") from error
        return self._keep(tenant_id, _Session(where["apiGatewayUrl"], tokens["IdToken"]))

    def _keep(self, tenant_id: str, session: _Session) -> _Session:
        with self._lock:
            self._sessions[tenant_id] = session
        return session

    def _http(self) -> requests.Session:
        """One per thread: they are not made for several."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # the stand-ins are on this machine: no proxy
        session: requests.Session = self._local.session
        return session


def _path(table: str, key: str | None = None) -> str:
    return f"/{table.lower()}s" + (f"/{quote(key, safe='')}" if key else "")


def _epoch(answer: requests.Response) -> int:
    return int(answer.headers[EPOCH_HEADER])


def _document(answer: requests.Response) -> Any:
    return json.loads(answer.content, parse_float=Decimal, parse_int=Decimal)


def _item(table: str, document: Mapping[str, Any]) -> dict[str, Any]:
    return from_document(table_named(table), dumps(dict(document)).encode())


def _checked(answer: requests.Response) -> requests.Response:
    """The answer, if it says that the request was done.

    Raises:
        ApiError: it does not.
    """
    if answer.ok:
        return answer
    told = f"{answer.status_code}: {answer.text[:500]}"
    if answer.status_code == 503:
        raise Fenced(told, float(answer.headers.get("Retry-After", "1")))
    kinds = {400: Refused, 401: Unauthorized, 403: Forbidden, 404: NotFound}
    raise kinds.get(answer.status_code, Unclear)(told)
