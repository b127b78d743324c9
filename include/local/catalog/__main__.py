"""Runs the DataZone stand-in: ``python -m include.local.catalog --port P --home DIR``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from include.local.catalog.identity import DOMAIN_ID, PROJECT_ID
from include.local.catalog.server import Server
from include.local.catalog.service import Service
from include.local.layout import DEFAULT_PORTS
from include.local.processes import PortTakenError
from include.local.serving import serve_until_told


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m include.local.catalog", description=__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORTS["catalog"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, help="where the state is kept; without it, in memory only")
    parser.add_argument("--domain", default=DOMAIN_ID, help="the id of the one domain")
    parser.add_argument("--project", default=PROJECT_ID, help="the id of its one project")
    parser.add_argument(
        "--processing-seconds", type=float, default=0.2, help="how long a lineage event waits to be processed"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    service = Service(options.domain, options.project, options.home, options.processing_seconds)
    try:
        server = Server(service, options.host, options.port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 1
    serve_until_told(server, options.host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
