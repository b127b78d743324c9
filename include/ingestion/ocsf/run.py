"""Map one batch: ``python -m include.ingestion.ocsf.run REQUEST.json``, in the warehouse environment.

The seam between the intake and the engine: the intake fetches objects and publishes files, this reads the one and writes the other and
knows no AWS. Two threads are two processes, each with objects of its own: what takes the time (unpacking, mapping, Parquet) then runs
twice.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import duckdb

from include.ingestion.ocsf.engine import Engine, InputObject
from include.ingestion.ocsf.language import MappingError
from include.ingestion.sources import Source, SourceError, load_source, mapping_digest

RESULT: Final = "result.json"


class RequestRefused(ValueError):
    """A request can't be carried out; nothing was done."""


def main(arguments: list[str]) -> int:
    """Carry out a request file.

    Returns:
        0: ``result.json`` is there; else the last line on standard error says why not.
    """
    if len(arguments) != 1:
        print("expected one argument, the request file", file=sys.stderr)  # noqa: T201 - a command
        return 2
    try:
        run_request(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    except (RequestRefused, SourceError, MappingError, OSError, RuntimeError, duckdb.Error) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        # DuckDB and Arrow say it in words only.
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)
        return errno.ENOSPC if full else 1
    return 0


def run_request(request: dict[str, Any]) -> dict[str, Any]:
    """Map the batch and write ``result.json``; what is in it is returned, too.

    Raises:
        RequestRefused: the mapping is another one than the request was made for, or a key is missing.
        RuntimeError: the counts don't add up, or a lane failed.
    """
    started = time.perf_counter()
    missing = {"source", "batch", "objects", "out"} - set(request)
    if missing:
        raise RequestRefused(f"expected the keys source, batch, objects, out, found no {', '.join(sorted(missing))}")
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    source = _source(request)
    digest = mapping_digest(source)
    if request.get("mapping_digest") not in (None, digest):
        raise RequestRefused(
            f"expected the mapping {request['mapping_digest']}, found {digest}: {source.name} changed on the way; "
            "deploy one version everywhere, then try again"
        )
    objects = request["objects"]
    threads = int(request.get("threads", 1))
    lanes = _lanes(objects, threads) if "lane" not in request else [list(range(len(objects)))]
    here = len(lanes) == 1
    result = _run_here(request, source, digest, out, threads) if here else _run_lanes(request, lanes, out)
    result["mapping_digest"] = digest
    result["bytes_read"] = sum(int(item["size"]) for item in objects)
    result["seconds"] = round(time.perf_counter() - started, 3)
    temporary = out / f"{RESULT}.new"
    temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    temporary.replace(out / RESULT)
    return result


def _source(request: dict[str, Any]) -> Source:
    if folder := request.get("sources_dir"):
        return load_source(request["source"], Path(folder))
    return load_source(request["source"])


def _lanes(objects: list[dict[str, Any]], threads: int) -> list[list[int]]:
    """Objects for each process: largest first, each to the lane with the least; the same for the same batch."""
    count = max(1, min(threads, len(objects)))
    lanes: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for place in sorted(range(len(objects)), key=lambda place: (-int(objects[place]["size"]), place)):
        lane = loads.index(min(loads))
        lanes[lane].append(place)
        loads[lane] += int(objects[place]["size"]) + 1
    return [sorted(lane) for lane in lanes]


def _run_here(request: dict[str, Any], source: Source, digest: str, out: Path, threads: int) -> dict[str, Any]:
    objects = []
    for item in request["objects"]:
        replayed = item.get("replay_of")
        match = source.match((replayed or item)["key"])
        objects.append(
            InputObject(
                Path(item["path"]),
                item["bucket"],
                item["key"],
                item.get("version_id"),
                item.get("etag"),
                match.account if match and source.account_id.key else None,
                match.region if match and source.region.key else None,
                replayed is not None,
            )
        )
    engine = Engine(source, threads=threads, work=out)
    lane = request.get("lane", 0)
    counts, outputs, letters = engine.run(
        objects,
        out,
        batch=request["batch"],
        digest=digest,
        region=source.region.default or request.get("region"),
        account=source.account_id.default,
        prefix=f"events-{lane}",
    )
    return {
        "read": counts.read,
        "written": counts.written,
        "set_aside": counts.set_aside,
        "reasons": dict(sorted(counts.reasons.items())),
        "classes": dict(sorted(counts.classes.items())),
        "outputs": [
            {
                "path": str(output.path),
                "class": output.partition.class_name,
                "region": output.partition.region,
                "account_id": output.partition.account_id,
                "event_day": output.partition.event_day,
                "part": part,
                "rows": output.rows,
                "bytes": output.size,
                "time_min": output.time_min,
                "time_max": output.time_max,
            }
            for part, output in enumerate(outputs)
        ],
        "dead_letters": letters,
        "objects": [
            {"key": item.key, "version_id": item.version_id, "read": read, "written": written, "set_aside": aside}
            for item, (read, written, aside) in zip(objects, counts.by_object, strict=True)
        ],
    }


def _run_lanes(request: dict[str, Any], lanes: list[list[int]], out: Path) -> dict[str, Any]:
    """One process a lane; their results as one."""
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    try:
        for lane, places in enumerate(lanes):
            folder = out / f"lane-{lane}"
            folder.mkdir(exist_ok=True)
            file = folder / "request.json"
            objects = [request["objects"][place] for place in places]
            file.write_text(
                json.dumps({**request, "objects": objects, "out": str(folder), "threads": 1, "lane": lane}),
                encoding="utf-8",
            )
            command = [sys.executable, "-m", "include.ingestion.ocsf.run", str(file)]
            running.append((folder, subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))  # noqa: S603
        for folder, process in running:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{folder.name}: {(said.strip().splitlines() or ['no message'])[-1]}")
    finally:
        for _, process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    results = [json.loads((folder / RESULT).read_text(encoding="utf-8")) for folder, _ in running]
    merged: dict[str, Any] = {key: sum(result[key] for result in results) for key in ("read", "written", "set_aside")}
    for key in ("reasons", "classes"):
        names = sorted({name for result in results for name in result[key]})
        merged[key] = {name: sum(result[key].get(name, 0) for result in results) for name in names}
    merged["outputs"] = [
        {**output, "part": part}
        for part, output in enumerate(output for result in results for output in result["outputs"])
    ]
    merged["dead_letters"] = [letters for result in results for letters in result["dead_letters"]]
    by_place = {
        place: item
        for places, result in zip(lanes, results, strict=True)
        for place, item in zip(places, result["objects"], strict=True)
    }
    merged["objects"] = [by_place[place] for place in range(len(request["objects"]))]
    return merged


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
