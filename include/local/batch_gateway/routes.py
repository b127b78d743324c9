"""The gateway's endpoints below its base path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from include.local.batch_gateway.errors import GatewayError

ROUTES: Final = (
    ("POST", "/spark", "submit"),
    ("GET", "/spark/mySubmissions", "my_submissions"),
    ("GET", "/spark/([^/]+)/status", "status"),
    ("GET", "/spark/([^/]+)/spec", "spec"),
    ("GET", "/spark/([^/]+)/driver", "driver"),
    ("GET", "/spark/([^/]+)/describe", "describe"),
    ("DELETE", "/spark/([^/]+)", "delete"),
    ("GET", "/admin/submissions", "list"),
    ("GET", "/log", "log"),
    ("POST", "/s3/([^/]+)", "upload"),
    ("GET", "/healthcheck/status", "health"),
)
"""Method, pattern of the path, and the operation's name, by which it is counted and befallen by faults."""

_COMPILED: Final = tuple((method, re.compile(pattern), name) for method, pattern, name in ROUTES)


def find_operation(base_path: str, method: str, target: str) -> tuple[str, str]:
    """The operation of a request, and the id or the name in its path.

    Raises:
        GatewayError: 404, 405, there is none.
    """
    path = urlsplit(target).path.rstrip("/")
    below = path.removeprefix(base_path) if path.startswith(base_path) else ""
    found = [(verb, name, match) for verb, pattern, name in _COMPILED if (match := pattern.fullmatch(below))]
    for verb, name, match in found:
        if verb == method:
            return name, unquote(match[1]) if match.groups() else ""
    if found:
        raise GatewayError("HTTP 405 Method Not Allowed", 405, "javax.ws.rs.NotAllowedException")
    raise GatewayError("HTTP 404 Not Found", 404, "javax.ws.rs.NotFoundException")
