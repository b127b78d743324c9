"""Who asks: the tenant in an id token of Cognito, whose pool must be one of the tenant's.

While a tenant is moved, tokens of its source's and of its target's pool are accepted, since users come over one by one; see
`include.tenants.identity`. The tenant is the token's claim and nothing else; no parameter names one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt

from include.local.saas.clients import REGION
from include.local.saas.errors import Forbidden, Unauthorized
from include.local.saas.routes import CACHE_SECONDS, Routes
from include.tenants.saas import POOLED, SETTINGS, TENANT_CLAIM, TENANT_ID
from include.tenants.store import MigrationStore
from include.tenants.transactions import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.tenants.clients import Clients

_ALGORITHMS: Final = ["RS256"]


@dataclass(frozen=True)
class Caller:
    """A user who has proven who it is.

    Attributes:
        tenant_id: whose user.
        user: name.
        pool_id: that has issued the token.
    """

    tenant_id: str
    user: str
    pool_id: str


class Authorizer:
    """Reads tokens. Used by many threads.

    Args:
        clients: of AWS.
        routes: tenants' routes.
        keys_url: where the pools' keys are; the stand-in's address.
        cache_seconds: how long it is believed which pools are a tenant's.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        clients: Clients,
        routes: Routes,
        keys_url: str,
        *,
        cache_seconds: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dynamodb = clients.dynamodb
        self._routes = routes
        self._keys_url = keys_url
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._store = MigrationStore(clients.dynamodb)
        self._lock = threading.Lock()
        self._pools: dict[str, tuple[dict[str, str], float]] = {}
        self._keys: dict[str, jwt.PyJWKClient] = {}

    def caller(self, authorization: str, owner: str) -> Caller:
        """Who sent a request.

        Args:
            authorization: the header.
            owner: of the stack that was asked: a tenant's id, or ``pooled``.

        Raises:
            Unauthorized: there is no valid token, or it is of a pool that has no business here.
            Forbidden: the token is of this stack's pool, but its tenant isn't one of that pool's.
        """
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Unauthorized("expected the header Authorization: Bearer <id token>")
        told = _unproven(token)
        tenant_id, pool_id = str(told.get(TENANT_CLAIM, "")), str(told.get("iss", "")).rpartition("/")[2]
        if not TENANT_ID.fullmatch(tenant_id):
            raise Unauthorized(f"expected an id token with the claim {TENANT_CLAIM}, found none")
        client_id = self._client(tenant_id, pool_id)
        if client_id is None:
            if pool_id not in self._pools_of(owner):
                raise Unauthorized(f"expected a token of a pool of tenant {tenant_id!r}, found one of {pool_id!r}")
            self._prove(token, pool_id, None)
            raise Forbidden(f"tenant {tenant_id!r} is not one of the user pool {pool_id}")
        proven = self._prove(token, pool_id, client_id)
        return Caller(tenant_id, str(proven["cognito:username"]), pool_id)

    def _client(self, tenant_id: str, pool_id: str) -> str | None:
        """The app client by which a pool's tokens are accepted for a tenant; None: they are not."""
        with self._lock:
            pools, until = self._pools.get(tenant_id, ({}, 0.0))
        if pool_id not in pools or self._clock() >= until:
            try:
                pools = self._accepted(tenant_id)
            except Unauthorized:
                return None
            with self._lock:
                self._pools[tenant_id] = pools, self._clock() + self._cache_seconds
        return pools.get(pool_id)

    def _accepted(self, tenant_id: str) -> dict[str, str]:
        route = self._routes.of(tenant_id, fresh=True).route
        pools = {}
        migration = self._store.current(tenant_id)
        identity: Mapping[str, Any] = migration.notes.get("identity", {}) if migration else {}
        if identity.get("moves", True) and self._clock() * 1000 < identity.get("deadline", 0):
            pools = {
                identity["source_user_pool_id"]: identity["source_app_client_id"],
                identity["user_pool_id"]: identity["app_client_id"],
            }
        return {**pools, route.user_pool_id: route.app_client_id}

    def _pools_of(self, owner: str) -> set[str]:
        if owner != POOLED:
            try:
                return {self._routes.of(owner).route.user_pool_id}
            except Unauthorized:
                return set()
        row = self._dynamodb.get_item(TableName=SETTINGS, Key={"settingName": {"S": "userPoolId-pooled"}}).get("Item")
        return {str(plain(row)["settingValue"])} if row else set()

    def _prove(self, token: str, pool_id: str, client_id: str | None) -> dict[str, Any]:
        """The claims, if the pool has signed them.

        Raises:
            Unauthorized: it has not, or not for this client, or not for now.
        """
        with self._lock:
            keys = self._keys.setdefault(
                pool_id, jwt.PyJWKClient(f"{self._keys_url}/{pool_id}/.well-known/jwks.json", timeout=10)
            )
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                keys.get_signing_key_from_jwt(token).key,
                algorithms=_ALGORITHMS,
                issuer=f"https://cognito-idp.{REGION}.amazonaws.com/{pool_id}",
                audience=client_id,
                options={"require": ["exp", "iss", "aud", "token_use"], "verify_aud": client_id is not None},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid: {error}") from error
        if claims["token_use"] != "id":
            raise Unauthorized(f"expected an id token, found one for {claims['token_use']}")
        return claims


def _unproven(token: str) -> dict[str, Any]:
    """What a token says of itself; only to know which pool to ask whether it is true."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise Unauthorized(f"expected an id token, found something else: {error}") from error
    return claims
