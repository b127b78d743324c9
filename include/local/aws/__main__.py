"""Runs the AWS stand-in: ``python -m include.local.aws --port P --home DIR``. Its state is in memory only.

With ``--saas-items`` the local SaaS is in it before it is ready; the passwords of its users are in the folder then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path

from include.local.aws.in_process import clients_inside, serving_in_process
from include.local.aws.server import make_aws_server, make_buckets
from include.local.layout import DEFAULT_PORTS, Layout
from include.local.processes import PortTakenError
from include.local.serving import told_to_stop


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m include.local.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORTS["aws"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, default=Layout().aws, help="where objects too large for memory go")
    parser.add_argument(
        "--bucket", action="append", default=[], help="S3 bucket to make before it is ready; repeatable"
    )
    parser.add_argument("--saas-items", type=int, help="items per tenant of the local SaaS; without it there is none")
    parser.add_argument(
        "--saas-url",
        default=f"http://127.0.0.1:{DEFAULT_PORTS['saas']}",
        help="where the SaaS's application answers, without a path",
    )
    parser.add_argument("--ingestion", action="store_true", help="make what the intake of security logs needs")
    options = parser.parse_args(arguments)
    options.home.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(options.home)  # moto spools large objects to temporary files
    try:
        server = make_aws_server(options.host, options.port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 1
    url = f"http://{options.host}:{server.server_port}"
    stop = told_to_stop()
    with serving_in_process(server.app, url):
        make_buckets(options.bucket)
        if options.ingestion:
            from botocore.config import Config

            from include.local.aws.ingestion import make_intake

            make_intake(lambda service: clients_inside().make(service, Config()))
        if options.saas_items is not None:
            from include.local.saas.preload import preload

            preload(options.saas_items, options.saas_url, options.home)
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
        print(f"ready on {url}", flush=True)
        stop.wait()
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
