"""Hold every source to its samples and to OCSF: ``make check-sources`` (``ONLY=windows_sysmon``; ``WRITE=1`` writes ``classes.json`` anew).

What it finds: attributes that a class lacks or requires and the mapping doesn't give, literals that OCSF refuses, kinds without a sample,
paths that no sample has, samples that are set aside though they should not be (and ``bad`` ones that are not), keys that two sources claim,
and a ``classes.json`` that is not what the mapping compiles to.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from include.ingestion.ocsf.engine import Engine, InputObject
from include.ingestion.ocsf.language import MappingError
from include.ingestion.ocsf.parquet import glue_columns
from include.ingestion.security_lake import custom_source_name
from include.ingestion.sources import SOURCES_DIR, SourceError, all_sources, check_sources, load_source

if TYPE_CHECKING:
    from include.ingestion.sources import Source

CLASSES_FILE: Final = "classes.json"
"""OCSF class → columns of its Glue table. Committed: Airflow's environment has no OCSF schema to compile with."""


def classes_json(engine: Engine) -> str:
    """The text of a source's ``classes.json``."""
    classes = {name: glue_columns(layout) for name, layout in sorted(engine.plan.layouts.items())}
    return json.dumps(classes, indent=1) + "\n"


def check_source(source: Source, *, write: bool = False) -> list[str]:
    """What is wrong with one source; one message each.

    Args:
        source: any.
        write: write ``classes.json`` instead of comparing it.
    """
    try:
        engine = Engine(source)
    except MappingError as error:
        return [f"{source.name}: {error}"]
    problems = [
        f"{source.name}/mapping.json: {kind.value}: {broken}"
        for kind in engine.plan.kinds.values()
        for broken in kind.broken
    ]
    for name in engine.plan.layouts:
        try:
            custom_source_name(source.name, name)
        except ValueError as error:
            problems.append(f"{source.name}/mapping.json: {error}")
    file = source.folder / CLASSES_FILE
    if write:
        file.write_text(classes_json(engine), encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != classes_json(engine):
        problems.append(
            f"{source.name}/{CLASSES_FILE}: expected what the mapping compiles to; run make check-sources WRITE=1"
        )
    return problems + _check_samples(source, engine)


def _check_samples(source: Source, engine: Engine) -> list[str]:
    samples = sorted(path for path in (source.folder / "samples").glob("*") if path.is_file())
    good = [path for path in samples if not path.name.startswith("bad")]
    if not good:
        return [f"{source.name}/samples: expected at least one file, found none"]
    problems = []
    seen: dict[str, set[str]] = {value: set() for value in engine.plan.kinds}
    met: set[str] = set()

    def look(kind: str) -> None:
        """Which paths of a kind have a value in the chunk that was just parsed."""
        plan = engine.plan.kinds[kind]
        known = [engine.sql.text(value) for value in engine.plan.kinds if value != "*"]
        others = f"kind NOT IN ({', '.join(known)})" if known else "kind IS NOT NULL"
        where = f"kind = {engine.sql.text(kind)}" if kind != "*" else others
        counts = ", ".join(["count(*)", *(f"count({sql})" for _, sql in plan.reads)])
        [row] = engine.connection.execute(f"SELECT {counts} FROM parsed WHERE {where}").fetchall()
        if row[0]:
            met.add(kind)
            seen[kind].update(path for (path, _), count in zip(plan.reads, row[1:], strict=True) if count)

    with tempfile.TemporaryDirectory() as folder:
        for path in samples:
            out = Path(folder) / path.name
            out.mkdir()
            item = InputObject(path, "samples", path.name, None, None, "123456789012", "us-east-1")
            counts, _, letters = engine.run([item], out, batch="check", digest="", region=None, account=None)
            if path in good:
                for kind in engine.plan.kinds:
                    look(kind)
                if counts.set_aside:
                    problems.append(
                        f"{source.name}/samples/{path.name}: expected every record to map, "
                        f"found {counts.set_aside} set aside: {_said(letters)}"
                    )
            elif counts.written:
                problems.append(
                    f"{source.name}/samples/{path.name}: expected only records that are set aside, found {counts.written} that map"
                )
    problems += [
        f"{source.name}/samples: expected a record of the kind {value}, found none"
        for value in engine.plan.kinds
        if value not in met
    ]
    # Kinds share fragments, so a path is right if a record of any of them has it.
    matched = set().union(*seen.values())
    paths = dict.fromkeys(path for plan in engine.plan.kinds.values() for path, _ in plan.reads)
    problems += [
        f"{source.name}/mapping.json: {path} has a value in no sample; correct the path or add a sample that has it"
        for path in paths
        if path not in matched
    ]
    return problems


def _said(letters: list[dict[str, object]]) -> str:
    import gzip

    said = []
    for file in letters:
        with gzip.open(str(file["path"]), "rt", encoding="utf-8") as lines:
            said += [f"{letter['record']}: {letter['reason']}: {letter['detail']}" for letter in map(json.loads, lines)]
    return "; ".join(said[:5])


def main(arguments: list[str]) -> int:
    """Check; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="make check-sources", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="SOURCE")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        sources = (load_source(asked.only),) if asked.only else all_sources()
        problems = check_sources()
    except SourceError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    for source in sources:
        problems += check_source(source, write=asked.write)
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    kinds = sum(len(Engine(source).plan.kinds) for source in sources) if not problems else 0
    if not problems:
        print(f"{len(sources)} sources, {kinds} kinds of events: all samples map and are valid ({SOURCES_DIR.name}/)")  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
