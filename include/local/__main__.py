"""The local platform's command line; ``make`` calls it. ``python -m include.local --help`` lists the commands."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from include.local.environment import BUCKET, load_secrets
from include.local.layout import DEFAULT_PORTS, Layout
from include.local.supervisor import (
    FAILED,
    RUNNING,
    STOPPED,
    PlatformError,
    State,
    describe_death,
    launch,
    stop,
    supervise,
    tail,
)


def follow(layout: Layout, state: State) -> State:
    """Print the start's progress until the platform runs.

    Raises:
        PlatformError: the start failed; the message is the supervisor's.
    """
    shown = ""
    while True:
        state = State.load(layout) or state
        if state.message and state.message != shown and state.phase not in {FAILED, STOPPED}:
            shown = state.message
            print(f"  {time.time() - state.started_at:5.1f} s  {shown}", flush=True)
        if state.phase == RUNNING:
            print(f"  {time.time() - state.started_at:5.1f} s  ready", flush=True)
            return state
        if state.phase in {FAILED, STOPPED} or not state.alive:
            time.sleep(0.5)  # the supervisor writes its reason last
            state = State.load(layout) or state
            reason = state.message or f"the supervisor ended:\n{tail(layout.logs / 'supervisor.log')}"
            raise PlatformError(f"the local platform did not start. {reason}")
        time.sleep(0.2)


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


def ensure_up(layout: Layout, *, tickit: str, no_login: bool) -> tuple[State, bool]:
    """The running platform, started if need be; second: whether this call started it."""
    state = State.load(layout)
    if state and state.alive and state.phase in {"starting", RUNNING}:
        dead = state.dead_parts()
        if dead:
            raise PlatformError(
                "\n".join(describe_death(part) for part in dead)
                + "\nNothing is restarted silently: run `make down`, then the command again."
            )
        return (state if state.phase == RUNNING else follow(layout, state)), False
    print("Starting the local platform")
    return follow(layout, launch(layout, tickit=tickit, no_login=no_login)), True


def up(layout: Layout, args: argparse.Namespace) -> int:
    """Start the platform, or say that it runs."""
    state, started = ensure_up(layout, tickit=args.tickit, no_login=os.environ.get("NO_LOGIN") == "1")
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


def serve(layout: Layout, args: argparse.Namespace) -> int:
    """Run the stand-ins alone, in the foreground: the ``platform`` service of ``docker-compose.override.yml``."""
    python = [sys.executable, "-m"]
    host = ["--host", args.host]
    # Airflow's containers run as another user and make the warehouse's files in the same folder.
    for folder in (layout.root, layout.warehouse, layout.published, layout.zero_etl):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
    aurora = ["--home", str(layout.aurora), "--zero-etl", str(layout.zero_etl), "--tickit", args.tickit]
    children = [
        subprocess.Popen(
            [
                *python,
                "include.local.aws",
                "--port",
                str(DEFAULT_PORTS["aws"]),
                "--home",
                str(layout.aws),
                "--bucket",
                BUCKET,
                *host,
            ]
        ),
        subprocess.Popen([*python, "include.local.aurora", "--port", str(DEFAULT_PORTS["zero-etl"]), *aurora, *host]),
    ]
    try:
        while all(child.poll() is None for child in children):
            time.sleep(0.5)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def demo(layout: Layout, args: argparse.Namespace) -> int:
    """Run the demo; see `include.local.demo`."""
    from include.local.demo import run_demo

    return run_demo(layout, only=args.only)


def package_mwaa(layout: Layout, args: argparse.Namespace) -> int:
    """Write ``dist/mwaa``; see `include.local.package_mwaa`."""
    from include.local.package_mwaa import build_package

    print(build_package().describe())
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
        (serve, "serve"),
        (demo, "demo"),
        (package_mwaa, "package-mwaa"),
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
        if name == "serve":
            command.add_argument("--host", default="127.0.0.1", help="address to listen on; in a container 0.0.0.0")
        if name == "demo":
            command.add_argument("--only", help="run one part of the demo")
    hidden = commands.add_parser("supervise")
    hidden.add_argument("--run-id", required=True)
    hidden.add_argument("--tickit", required=True)
    args = parser.parse_args(argv)
    layout = Layout()
    try:
        if args.command == "supervise":
            return supervise(layout, args.run_id, args.tickit)
        exit_status: int = args.function(layout, args)
        return exit_status
    except PlatformError as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
