"""Moto's server behind a global request lock.

Moto's backends are plain Python objects without locks of their own: two requests at once can lose an update or see
half of one. One request at a time makes conditional writes (S3 ``If-None-Match``, DynamoDB conditions) as atomic as
they are on AWS. **All state is in memory, as moto keeps it: it ends with the process.**
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from include.local.aws import (
    cognito,
    dynamodb_answers,
    dynamodb_batches,
    dynamodb_capacity,
    dynamodb_encryption,
    dynamodb_queries,
    dynamodb_streams,
    dynamodb_transactions,
    kinesis,
    pipeline,
    s3_answers,
)
from include.local.aws.dynamodb_faults import WithFaults
from include.local.processes import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class _Dispatcher(DomainDispatcherApplication):
    """Finds a service's application; moto looks through its own folder for it at each request, here once per service."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        """The service that answers to a host's name."""
        if host is None:
            return None
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


class OneAtATime:
    """Passes requests on one by one. ``GET /health`` is answered at once, whatever is going on."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application
        self.lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/health":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"status": "ok"}).encode()]
        with self.lock:
            return list(self._application(environ, start_response))  # the answer too is made under the lock


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # as AWS answers; werkzeug closes each connection all the same
    disable_nagle_algorithm = True  # an answer is more than one write

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log no request: Airflow makes several a second, and its own logs say what failed."""


def make_aws_server(host: str = "127.0.0.1", port: int = 0) -> BaseWSGIServer:
    """Bind the server; ``serve_forever`` runs it. Port 0 asks for a free one, ``server_port`` tells which.

    Raises:
        PortTakenError: something else listens there.
    """
    for extension in (
        dynamodb_transactions,
        dynamodb_batches,
        dynamodb_encryption,
        dynamodb_queries,
        dynamodb_capacity,
        dynamodb_streams,
        dynamodb_answers,
        cognito,
        pipeline,
        kinesis,
        s3_answers,
    ):
        extension.install()
    one_at_a_time = OneAtATime(_Dispatcher())
    application = WithFaults(cognito.WithTriggers(one_at_a_time), one_at_a_time.lock)
    try:
        return make_server(host, port, application, threaded=True, request_handler=_QuietHandler)
    except (OSError, SystemExit) as error:  # werkzeug prints the reason and exits
        raise PortTakenError(host, port) from error


def make_buckets(names: Iterable[str]) -> None:
    """Make S3 buckets, as infrastructure code does on AWS, before the first request is served."""
    from moto.s3.models import s3_backends

    for name in names:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(name, "us-east-1")
