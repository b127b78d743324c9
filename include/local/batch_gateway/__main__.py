"""Runs the gateway's stand-in, or the operator of its clusters.

- ``python -m include.local.batch_gateway gateway --port P --home DIR``
- ``python -m include.local.batch_gateway operator --home DIR``
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from include.local.batch_gateway.config import GatewayConfig, read_config
from include.local.batch_gateway.store import Store
from include.local.layout import DEFAULT_PORTS, Layout
from include.local.processes import PortTakenError
from include.local.serving import serve_until_told, told_to_stop


def with_uis(config: GatewayConfig, host: str, port: int) -> GatewayConfig:
    """The local clusters' UIs are those of the drivers, which the server leads to; a container does not publish the drivers' ports."""
    if host != "127.0.0.1":
        return config
    ui_url = f"http://{host}:{port}/_local/ui"
    return dataclasses.replace(
        config, clusters=tuple(dataclasses.replace(cluster, ui_url=ui_url) for cluster in config.clusters)
    )


def gateway(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from include.local.batch_gateway.server import Server
    from include.local.batch_gateway.service import Service
    from include.local.batch_gateway.uploads import Uploads

    try:
        config = read_config(options.config) if options.config else GatewayConfig()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    service = Service(config, Store(options.home), Uploads(options.aws))
    try:
        server = Server(service, options.host, options.port)
    except PortTakenError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.config:
        service.configure(with_uis(config, options.host, server.server_port))
    serve_until_told(server, options.host)
    return 0


def operator(options: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT; drivers go on."""
    from include.local.batch_gateway.operator import Drivers, Operator
    from include.local.batch_gateway.simulate import SimulatedDrivers

    store = Store(options.home)
    drivers: Drivers
    if options.simulate:
        drivers = SimulatedDrivers(store)
    else:
        from include.local.batch_gateway.spark import SparkDrivers

        drivers = SparkDrivers(store, options.spark_venv, options.aws, options.concurrency)
    stop = told_to_stop()
    print(f"ready {os.getpid()}", flush=True)
    Operator(store, drivers).run(stop)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(prog="python -m include.local.batch_gateway", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function in (gateway, operator):
        command = commands.add_parser(function.__name__, help=(function.__doc__ or "").splitlines()[0])
        command.set_defaults(function=function)
        command.add_argument("--home", type=Path, default=Layout().spark, help="where the clusters' state is kept")
        command.add_argument("--aws", help="URL of the AWS stand-in; without it, AWS itself")
        if function is gateway:
            command.add_argument("--port", type=int, default=DEFAULT_PORTS["batch-gateway"])
            command.add_argument("--host", default="127.0.0.1")
            command.add_argument("--config", type=Path, help="YAML or JSON with fields of GatewayConfig")
        else:
            command.add_argument("--simulate", action="store_true", help="no driver is started; see simulate.py")
            command.add_argument("--spark-venv", type=Path, default=Layout().spark_venv)
            command.add_argument("--concurrency", type=int, default=2, help="drivers at once; the others are pending")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    exit_status: int = options.function(options)
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
