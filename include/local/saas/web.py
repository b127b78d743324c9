"""The application over HTTP, as a WSGI application.

- ``/{owner}/products``, ``/{owner}/orders``, owner being the tenant's id where it has a stack of its own, else ``pooled``: GET lists
  (``limit``, ``after``), POST creates (``key``: one of the client's choosing, so that it can ask again).
- ``/{owner}/products/{key}``: GET, PUT, DELETE.
- ``/tenant/init/{tenantId}``: where a tenant's users sign in, as the reference's control plane tells it.
- ``/health``.

As in the reference, the authorizer finds the API key of the tenant's tier; a client need not send it, but one that is sent must be right.
A request for a tenant that lives elsewhere is answered with 308 and that address. ``X-Route-Epoch`` tells the route that was used.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchPath
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from include.local.processes import PortTakenError
from include.local.saas.api import TABLES, Application, Found, Page, Written, key_of
from include.local.saas.documents import dumps, from_document
from include.local.saas.errors import ApiError, Elsewhere, Fenced, Refused, Unauthorized
from include.tenants.saas import POOLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from include.local.saas.tokens import Authorizer, Caller
    from include.tenants.saas import DataTable, Tenant

log = logging.getLogger(__name__)

EPOCH_HEADER: Final = "X-Route-Epoch"
_COLLECTIONS: Final = {f"{table.prefix.lower()}s": table for table in TABLES.values()}


class Web:
    """The WSGI application.

    Args:
        instances: of the application; requests go to them in turn. Each has a cache of its own.
        authorizer: reads tokens.
    """

    def __init__(self, instances: Sequence[Application], authorizer: Authorizer) -> None:
        self._turn = itertools.cycle(instances)
        self._lock = threading.Lock()
        self._authorizer = authorizer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except ApiError as error:
            response = _refusal(error, request)
        except HTTPException as error:
            response = _json({"message": str(error.description)}, error.code or 500)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            response = _json({"message": f"it is not known whether it was done: {error}"}, 500)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        with self._lock:
            application = next(self._turn)
        match request.path[1:].split("/", 2):
            case ["health"]:
                return _json({"status": "ok"})
            case ["tenant", "init", tenant_id]:
                route = application.routes.of(tenant_id, fresh=True).route
                return _json(
                    {
                        "userPoolId": route.user_pool_id,
                        "appClientId": route.app_client_id,
                        "apiGatewayUrl": route.api_url,
                    }
                )
            case [owner, collection, *rest] if collection in _COLLECTIONS:
                caller = self._authorizer.caller(request.headers.get("Authorization", ""), owner)
                _check_place(application, request, caller, owner)
                return _serve(application, request, caller, _COLLECTIONS[collection], rest[0] if any(rest) else None)
        raise NoSuchPath(f"no such path: {request.path}")


def _check_place(application: Application, request: Request, caller: Caller, owner: str) -> None:
    """Whether the tenant lives at this address, and the API key is its.

    Raises:
        Elsewhere: it lives at another one.
        Unauthorized: the key is another one.
    """
    tenant = application.routes.of(caller.tenant_id)
    if _owner(tenant) != owner:
        # the client may know more than the cache does
        tenant = application.routes.of(caller.tenant_id, fresh=True)
        if _owner(tenant) != owner:
            path = request.path[1:].partition("/")[2]
            query = request.query_string.decode()
            raise Elsewhere(f"{tenant.route.api_url}/{quote(path)}" + (f"?{query}" if query else ""))
    key = request.headers.get("X-Api-Key")
    if key is not None and key != tenant.route.api_key:
        tenant = application.routes.of(caller.tenant_id, fresh=True)
        if key != tenant.route.api_key:
            raise Unauthorized(f"the API key is not that of tenant {caller.tenant_id}'s tier")


def _owner(tenant: Tenant) -> str:
    return tenant.tenant_id if tenant.route.tier.silo else POOLED


def _serve(application: Application, request: Request, caller: Caller, table: DataTable, key: str | None) -> Response:
    tenant_id = caller.tenant_id
    match request.method, key:
        case "GET", None:
            limit = request.args.get("limit", "100")
            if not limit.isdecimal() or int(limit) < 1:
                raise Refused(f"limit: expected a number from 1, found {limit!r}")
            return _page(
                application.list(tenant_id, table.prefix, limit=int(limit), after=request.args.get("after")), table
            )
        case "POST", None:
            body = from_document(table, request.get_data())
            return _written(application.put(tenant_id, table.prefix, request.args.get("key"), body), 201)
        case "GET", str():
            return _found(application.get(tenant_id, table.prefix, key), table)
        case "PUT", str():
            body = from_document(table, request.get_data())
            return _written(application.update(tenant_id, table.prefix, key, body))
        case "DELETE", str():
            return _written(application.delete(tenant_id, table.prefix, key))
    raise MethodNotAllowed(["GET", "POST"] if key is None else ["GET", "PUT", "DELETE"])


def _written(written: Written, status: int = 200) -> Response:
    return _json({"key": written.key}, status, {EPOCH_HEADER: str(written.epoch)})


def _found(found: Found, table: DataTable) -> Response:
    return _json({"key": key_of(table, found.item), "item": found.item}, 200, {EPOCH_HEADER: str(found.epoch)})


def _page(page: Page, table: DataTable) -> Response:
    items = [{"key": key_of(table, item), "item": item} for item in page.items]
    return _json({"items": items, "after": page.after}, 200, {EPOCH_HEADER: str(page.epoch)})


def _refusal(error: ApiError, request: Request) -> Response:
    headers = {}
    if isinstance(error, Fenced):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, Elsewhere):
        headers["Location"] = error.url
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    log.debug("%s %s: %s", request.method, request.path, error)
    return _json({"message": str(error)}, error.status, headers)


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(document), status, headers, mimetype="application/json")


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no request: a load makes hundreds a second."""


def make_saas_server(web: Web, host: str = "127.0.0.1", port: int = 0) -> BaseWSGIServer:
    """Bind the server; ``serve_forever`` runs it. Port 0 asks for a free one, ``server_port`` tells which.

    Raises:
        PortTakenError: something else listens there.
    """
    try:
        return make_server(host, port, web, threaded=True, request_handler=_QuietHandler)
    except (OSError, SystemExit) as error:  # werkzeug prints the reason and exits
        raise PortTakenError(host, port) from error
