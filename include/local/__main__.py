"""The local platform's command line; ``make`` calls it. ``python -m include.local --help`` lists the commands."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from include.local.environment import load_secrets
from include.local.layout import DEFAULT_PORTS, SAAS_ITEMS, Layout
from include.local.restart import restart as restart_part
from include.local.start import ensure_up
from include.local.supervisor import FAILED, PlatformError, State, describe_death, stand_ins, stop, supervise


def print_access(layout: Layout, state: State) -> None:
    """Where the UI is and how to log in."""
    print(f"\nAirflow UI   {state.url}")
    if state.no_login:
        print("Login        none (NO_LOGIN=1): everyone on this machine is admin")
    else:
        for user, password in load_secrets(layout)["passwords"].items():
            print(f"Login        {user:9} {password}")
    moved = [
        f"{name} is on {port} ({DEFAULT_PORTS[name]} was taken)"
        for name, port in state.ports.items()
        if port != DEFAULT_PORTS[name]
    ]
    if moved:
        print("Ports        " + "; ".join(moved))
    print(f"Logs         {layout.logs}\nStop with    make down")


def up(layout: Layout, args: argparse.Namespace) -> int:
    """Start the platform, or say that it runs."""
    no_login = os.environ.get("NO_LOGIN") == "1"
    state, started = ensure_up(layout, tickit=args.tickit, no_login=no_login, saas_items=args.saas_items)
    if not started:
        print("Already running.")
    print_access(layout, state)
    return 0


def down(layout: Layout, args: argparse.Namespace) -> int:
    """Stop the platform."""
    state = stop(layout)
    print("Stopped." if state else "Nothing was running.")
    return 0


def status(layout: Layout, args: argparse.Namespace) -> int:
    """Print each part; exit status 1 where a part died, 3 where nothing runs."""
    state = State.load(layout)
    if state is None or not state.alive:
        print("Not running. Start with `make up`.")
        if state and state.phase == FAILED:
            print(f"The last start failed. {state.message}")
        return 3
    for part in state.parts.values():
        if part.status != "done":
            pid = f"pid {part.pid}" if part.pid else ""
            print(f"{part.name:14} {part.status:9} {pid:12} {f'port {part.port}' if part.port else ''}".rstrip())
    print(f"{'phase':14} {state.phase} {state.message}\n{'UI':14} {state.url}")
    dead = state.dead_parts()
    for part in dead:
        print(describe_death(part))
    return 1 if dead else 0


def restart(layout: Layout, args: argparse.Namespace) -> int:
    """Start one part that died again; the others go on meanwhile."""
    part = restart_part(layout, args.part)
    print(f"{part.name} runs again, pid {part.pid}.")
    return 0


def serve(layout: Layout, args: argparse.Namespace) -> int:
    """Run the stand-ins alone, in the foreground: the ``platform`` service of ``docker-compose.override.yml``."""
    # Airflow's containers run as another user and make the warehouse's files in the same folder.
    for folder in (layout.root, layout.warehouse, layout.published, layout.zero_etl, layout.lineage, layout.spark):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else a container's first process ignores it
    children = {
        name: subprocess.Popen([*command, *(["--host", args.host] if name in DEFAULT_PORTS else [])])
        for name, command in stand_ins(layout, DEFAULT_PORTS, args.tickit, args.saas_items).items()
    }
    try:
        while True:
            for name, child in children.items():
                if child.poll() is not None:
                    print(f"{name} ended with exit status {child.returncode}; stopping", file=sys.stderr)
                    return 1
            time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.wait()


def demo(layout: Layout, args: argparse.Namespace) -> int:
    """Run the demo; see `include.local.demo`."""
    from include.local.demo import run_demo

    return run_demo(layout, only=args.only)


def package_mwaa(layout: Layout, args: argparse.Namespace) -> int:
    """Write ``dist/mwaa``; see `include.local.mwaa.package`."""
    from include.local.mwaa.package import PackageInvalid, build_package
    from include.local.mwaa.wheels import WheelsUnavailable

    try:
        print(build_package().describe())
    except (PackageInvalid, WheelsUnavailable) as error:
        print(f"package-mwaa: {error}", file=sys.stderr)
        return 1
    return 0


def mwaa_options(layout: Layout, args: argparse.Namespace) -> int:
    """Print an MWAA environment's configuration options as JSON; see `include.local.mwaa.options`."""
    from include.local.mwaa.options import Deployment, OptionsInvalid, configuration_options

    try:
        hosts = dict(entry.split("=", 1) for entry in args.redshift_host)
        deployment = Deployment(args.region, args.account, args.bucket, args.domain, args.project, hosts)
        print(json.dumps(configuration_options(deployment), indent=2))
    except OptionsInvalid as error:
        print(f"mwaa-options: {error}", file=sys.stderr)
        return 1
    except ValueError:
        print(
            f"mwaa-options: --redshift-host: expected HOST=workgroup:NAME or HOST=cluster:NAME, found {args.redshift_host}",
            file=sys.stderr,
        )
        return 1
    return 0


def docs(layout: Layout, args: argparse.Namespace) -> int:
    """Write the generated parts of the documentation; see `include.local.docs`."""
    from include.local.docs import write_docs

    print("changed: " + (", ".join(write_docs()) or "nothing"))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Parse the command and run it; an expected failure is one message and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m include.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for function, name in (
        (up, "up"),
        (down, "down"),
        (status, "status"),
        (restart, "restart"),
        (serve, "serve"),
        (demo, "demo"),
        (package_mwaa, "package-mwaa"),
        (mwaa_options, "mwaa-options"),
        (docs, "docs"),
    ):
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        command.set_defaults(function=function)
        if name in {"up", "serve"}:
            command.add_argument(
                "--tickit",
                choices=("full", "small", "none"),
                default="full",
                help="size of the data an empty Aurora gets",
            )
            command.add_argument(
                "--saas-items", type=int, default=SAAS_ITEMS, help="items of each of the local SaaS's tenants"
            )
        if name == "serve":
            command.add_argument("--host", default="127.0.0.1", help="address to listen on; in a container 0.0.0.0")
        if name == "mwaa-options":
            for option in ("region", "account", "bucket"):
                command.add_argument(f"--{option}", required=True)
            command.add_argument(
                "--domain", default="", help="DataZone domain's id; none means that lineage is spooled only"
            )
            command.add_argument("--project", default="", help="DataZone project that owns the assets")
            command.add_argument(
                "--redshift-host",
                action="append",
                default=[],
                metavar="HOST=workgroup:NAME|cluster:NAME",
                help="the warehouse behind a host that does not say it: a custom name, a VPC endpoint",
            )
        if name == "restart":
            command.add_argument("part", help="its name as `make status` tells it")
        if name == "demo":
            command.add_argument("--only", help="run one part of the demo")
    hidden = commands.add_parser("supervise")
    hidden.add_argument("--run-id", required=True)
    hidden.add_argument("--tickit", required=True)
    hidden.add_argument("--saas-items", type=int, required=True)
    args = parser.parse_args(argv)
    layout = Layout()
    try:
        if args.command == "supervise":
            return supervise(layout, args.run_id, args.tickit, args.saas_items)
        exit_status: int = args.function(layout, args)
        return exit_status
    except PlatformError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
