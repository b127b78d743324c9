"""Lets code of the process that is the AWS stand-in call it through boto3 without a socket.

Code that runs inside the stand-in, as a Lambda function on AWS does, gets there by boto3's default session. A test whose stand-in is in
its own process saves two thirds of each request's time.
"""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from include.tenants import user_migration
from include.tenants.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import WSGIApplication

REGION: Final = "us-east-1"
STARTING: Final = threading.Lock()
"""Held while a client is made: boto3's default session is no friend of threads."""
DROPPED: Final = "500 Dropped"
"""Status of an answer that stands for a connection that was closed without one."""
_SERVED: Final[dict[str, WSGIApplication]] = {}


class _Body(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        """What botocore reads an answer by."""
        while block := self.read(65536):
            yield block


@contextmanager
def serving_in_process(application: WSGIApplication, url: str) -> Iterator[None]:
    """Meanwhile ``boto3.client(...)`` of this process talks to the application, and so do the clients of whoever asks for its URL.

    Raises:
        RuntimeError: this process serves one already; moto keeps its state once per process.
    """
    import boto3

    if _SERVED:
        raise RuntimeError(f"expected no other AWS stand-in in this process, found the one at {next(iter(_SERVED))}")
    before = boto3.DEFAULT_SESSION
    boto3.setup_default_session(aws_access_key_id="stand-in", aws_secret_access_key="not-a-secret", region_name=REGION)
    session: Any = boto3.DEFAULT_SESSION
    session.events.register("before-send", _sender(application))
    _SERVED[url] = application
    try:
        yield
    finally:
        _SERVED.clear()
        boto3.DEFAULT_SESSION = before
        clients_inside.cache_clear()
        user_migration.clients.cache_clear()


def shortcut(client: Any, url: str) -> Any:
    """The client, which goes straight to the application if that is of this process."""
    if url in _SERVED:
        client.meta.events.register("before-send", _sender(_SERVED[url]))
    return client


@cache
def clients_inside() -> Clients:
    """Clients of the stand-in for code that runs inside it."""
    import boto3
    from botocore.config import Config

    # a bucket in the host's name would be none that the server answers to
    by_path = Config(s3={"addressing_style": "path"})

    def make(service: str, config: Any) -> Any:
        with STARTING:
            return boto3.client(service, config=config.merge(by_path))

    return Clients(make)


def _sender(application: WSGIApplication) -> Callable[..., Any]:
    """What botocore asks before it sends a request; it takes the answer for the server's."""
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ConnectionClosedError
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    def send(request: Any, **_: Any) -> Any:
        headers = [
            (name, value.decode() if isinstance(value, bytes) else value) for name, value in request.headers.items()
        ]
        where = urlsplit(request.url)
        environ = EnvironBuilder(
            where.path,
            base_url=f"{where.scheme}://{where.netloc}",
            query_string=where.query,
            method=request.method,
            headers=headers,
            data=request.body or b"",
        ).get_environ()
        body, status, answered = run_wsgi_app(application, environ, buffered=True)
        if status == DROPPED:
            raise ConnectionClosedError(endpoint_url=request.url)
        return AWSResponse(request.url, int(status.split()[0]), dict(answered), _Body(b"".join(body)))

    return send
