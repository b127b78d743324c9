"""Makes TICKIT files, or loads files into a local Aurora: ``python -m include.local.tickit {generate,load} --help``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from include.local.aurora.source import Aurora
from include.local.layout import Layout
from include.local.tickit.generate import SIZES, generate
from include.local.tickit.load import LoadError, read_tables
from include.local.tickit.rows import to_rows, write_files


def _generate(options: argparse.Namespace) -> int:
    for name, path in write_files(generate(options.size, seed=options.seed), options.out).items():
        print(f"{name}: {path}")
    return 0


def _load(options: argparse.Namespace) -> int:
    started = time.monotonic()
    rejects = options.rejects or options.home / "rejects.jsonl"
    try:
        given, report = read_tables(options.source, rejects, endpoint_url=options.endpoint_url)
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    for line in report.lines():
        print(line)
    tables = generate(options.size, seed=options.seed, given=given)
    aurora = Aurora(options.home)
    aurora.create_tickit()
    with aurora.transaction() as connection:
        for name, columns in tables.items():
            rows = aurora.upsert(connection, name, to_rows(name, columns))
            print(f"{name}: wrote {rows} {'loaded' if name in given else 'generated'} rows")
    print(f"done in {time.monotonic() - started:.1f} s: {aurora.path}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m include.local.tickit", description=__doc__)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--size", choices=list(SIZES), default="full")
    common.add_argument("--seed", type=int, default=2008)
    make = commands.add_parser("generate", parents=[common], help="write files, one folder per table")
    make.add_argument("--out", type=Path, required=True)
    make.set_defaults(run=_generate)
    load = commands.add_parser("load", parents=[common], help="load files; tables without a file are generated to fit")
    load.add_argument("--from", dest="source", required=True, help="a directory or s3://bucket/prefix")
    load.add_argument("--home", type=Path, default=Layout().aurora, help="the local Aurora")
    load.add_argument("--rejects", type=Path, help="reject file; default rejects.jsonl beside the database")
    load.add_argument("--endpoint-url", help="of S3; default from the environment")
    load.set_defaults(run=_load)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
