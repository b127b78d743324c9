"""Runs the application: ``python -m include.local.saas --port P --aws URL``. It keeps no state: its items are in the AWS stand-in."""

from __future__ import annotations

import argparse
import logging
import sys
import threading

from include.local.layout import DEFAULT_PORTS
from include.local.processes import PortTakenError
from include.local.saas.clients import clients_at
from include.local.saas.load import Stalls, instances
from include.local.saas.routes import CACHE_SECONDS
from include.local.saas.tokens import Authorizer
from include.local.saas.web import Web, make_saas_server
from include.local.serving import told_to_stop


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m include.local.saas", description=__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORTS["saas"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--aws", default=f"http://127.0.0.1:{DEFAULT_PORTS['aws']}", help="URL of the AWS stand-in")
    parser.add_argument("--instances", type=int, default=2, help="how many caches there are")
    parser.add_argument("--cache-seconds", type=float, default=CACHE_SECONDS, help="how long a route is believed")
    parser.add_argument("--stall-share", type=float, default=0.0, help="share of the writes that stall")
    parser.add_argument("--stall-seconds", type=float, default=1.0, help="how long they do")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    clients = clients_at(options.aws)
    applications = instances(
        clients,
        options.instances,
        cache_seconds=options.cache_seconds,
        stalls=Stalls(options.stall_share, options.stall_seconds),
    )
    authorizer = Authorizer(clients, applications[0].routes, options.aws, cache_seconds=options.cache_seconds)
    try:
        server = make_saas_server(Web(applications, authorizer), options.host, options.port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 1
    stop = told_to_stop()
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print(f"ready on http://{options.host}:{server.server_port}", flush=True)
    stop.wait()
    server.shutdown()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
