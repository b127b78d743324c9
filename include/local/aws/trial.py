"""An AWS stand-in of one's own, for tests, on a free port, gone afterwards.

It is a process beside the caller or, three times as fast, part of the caller. Moto keeps its state once per process: two servers in one
would share buckets, so there is one at a time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@contextmanager
def trial_aws(buckets: Iterable[str] = (), *, saas_items: int | None = None, home: Path | None = None) -> Iterator[str]:
    """Serve AWS with these S3 buckets and yield the endpoint's URL.

    Args:
        buckets: to make.
        saas_items: items per tenant of the local SaaS; None: no SaaS.
        home: folder of the passwords of the SaaS's users and of large objects; None: one of its own, gone afterwards.

    Raises:
        RuntimeError: it did not start.
    """
    wanted = [word for bucket in buckets for word in ("--bucket", bucket)]
    if saas_items is not None:
        wanted += ["--saas-items", str(saas_items)]
    with tempfile.TemporaryDirectory(prefix="aws-") as own:
        command = [sys.executable, "-m", "include.local.aws", "--port", "0", "--home", str(home or own), *wanted]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) as process:
            assert process.stdout
            try:
                ready = process.stdout.readline()
                if not ready.startswith("ready on "):
                    raise RuntimeError(f"the AWS stand-in did not start: it said {ready!r}; its error is above")
                yield ready.removeprefix("ready on ").strip()
            finally:
                process.terminate()


@contextmanager
def trial_aws_in_process(buckets: Iterable[str] = ()) -> Iterator[str]:
    """Serve AWS from this process and yield the endpoint's URL; clients of `clients_at` need no socket.

    What a client does when it waits too long for an answer can't be tried so.

    Raises:
        RuntimeError: this process serves one already.
    """
    from moto.moto_api._internal.models import moto_api_backend

    from include.local.aws.clock import CLOCK
    from include.local.aws.in_process import serving_in_process
    from include.local.aws.server import make_aws_server, make_buckets

    server = make_aws_server()
    url = f"http://127.0.0.1:{server.server_port}"
    with serving_in_process(server.app, url):
        moto_api_backend.reset()
        CLOCK.reset()
        make_buckets(buckets)
        thread = threading.Thread(target=server.serve_forever, name="aws", daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            server.server_close()
