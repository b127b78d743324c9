"""Runs the local Aurora and its zero-ETL integration: ``python -m include.local.aurora --help``."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from pathlib import Path

from include.local.aurora.replicator import PUBLISH_SECONDS, Replicator, ReplicatorLockedError
from include.local.aurora.server import Server
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aurora.source import Aurora
from include.local.aurora.workload import NothingToWriteToError, Workload
from include.local.layout import DEFAULT_PORTS, Layout
from include.local.processes import PortTakenError
from include.local.serving import told_to_stop
from include.local.tickit.generate import SIZES, generate
from include.local.tickit.rows import to_rows

log = logging.getLogger("aurora")


def seed(aurora: Aurora, size: str, number: int) -> None:
    """Fill an empty database with generated TICKIT data; one that has rows is left alone."""
    aurora.create_tickit()
    if size == "none" or not aurora.is_empty():
        return
    with aurora.transaction() as connection:
        for name, columns in generate(size, seed=number).items():
            rows = aurora.upsert(connection, name, to_rows(name, columns))
            log.info("seeded %s: %d rows", name, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m include.local.aurora",
        description="Serves the local Aurora's zero-ETL integration.",
        epilog="Another command: python -m include.local.aurora workload --help",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORTS["zero-etl"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--home", type=Path, default=Layout().aurora, help="where the source database is")
    parser.add_argument("--zero-etl", type=Path, default=Layout().zero_etl, help="where the replica is published")
    parser.add_argument(
        "--tickit", choices=[*SIZES, "none"], default="none", help="what to seed an empty database with"
    )
    parser.add_argument("--seed", type=int, default=2008)
    parser.add_argument(
        "--publish-seconds", type=float, default=PUBLISH_SECONDS, help="least time between publications"
    )
    parser.add_argument(
        "--auto-connect", action="store_true", help=f"make the database {TARGET_DATABASE} at start, as a DAG would"
    )
    return parser


def write(arguments: list[str]) -> int:
    """The ``workload`` command: write to a database that is there, at a steady rate."""
    parser = argparse.ArgumentParser(prog="python -m include.local.aurora workload")
    parser.add_argument("--home", type=Path, default=Layout().aurora)
    parser.add_argument("--writes-per-second", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="workloads that run at once need different seeds")
    options = parser.parse_args(arguments)
    try:
        workload = Workload(Aurora(options.home), seed=options.seed)
    except NothingToWriteToError as error:
        print(error, file=sys.stderr)
        return 1
    written = workload.run(options.writes_per_second, options.seconds)
    print(
        f"{written.inserts} inserts, {written.updates} updates, {written.deletes} deletes in {written.transactions} "
        f"transactions: {written.writes / written.seconds:.1f} writes/s"
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; or, as ``workload …``, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["workload"]:
        return write(arguments[1:])
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stdout)
    aurora = Aurora(options.home)
    try:
        replicator = Replicator(aurora, options.zero_etl, publish_seconds=options.publish_seconds)
        server = Server(replicator, options.host, options.port)
    except (ReplicatorLockedError, PortTakenError) as error:
        print(error, file=sys.stderr)
        return 1
    seed(aurora, options.tickit, options.seed)
    if options.auto_connect and replicator.published_path is None:
        replicator.connect_database(TARGET_DATABASE)
    stop = told_to_stop()
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    log.info("ready on http://%s:%d; source %s", options.host, server.server_port, aurora.path)
    replicator.run(stop)
    server.close()
    replicator.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
