"""Lets code that runs inside the AWS stand-in call it through boto3, as a Lambda function on AWS calls AWS.

boto3's default session of the process gets no socket: its requests go straight to the application, under the lock like all others.
"""

from __future__ import annotations

import io
import threading
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from include.tenants.clients import Clients

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIApplication

REGION: Final = "us-east-1"
STARTING: Final = threading.Lock()
"""Held while a client is made: boto3's default session is no friend of threads."""


class _Body(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        """What botocore reads an answer by."""
        while block := self.read(65536):
            yield block


def serve_in_process(application: WSGIApplication) -> None:
    """From now on ``boto3.client(...)`` of this process talks to the application: for a process that is the stand-in and nothing else."""
    import boto3
    from botocore.awsrequest import AWSResponse
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    def send(request: Any, **_: Any) -> Any:
        headers = [
            (name, value.decode() if isinstance(value, bytes) else value) for name, value in request.headers.items()
        ]
        environ = EnvironBuilder(
            request.url, method=request.method, headers=headers, data=request.body or b""
        ).get_environ()
        body, status, answered = run_wsgi_app(application, environ, buffered=True)
        return AWSResponse(request.url, int(status.split()[0]), dict(answered), _Body(b"".join(body)))

    boto3.setup_default_session(aws_access_key_id="stand-in", aws_secret_access_key="not-a-secret", region_name=REGION)
    session: Any = boto3.DEFAULT_SESSION
    session.events.register("before-send", send)


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
