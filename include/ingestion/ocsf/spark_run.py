"""Make a batch ready for a cluster: ``python -m include.ingestion.ocsf.spark_run REQUEST.json``, in the warehouse environment.

The same request as `include.ingestion.ocsf.run` takes, with one key more, ``job_request``: the file to write. It has all that the job
`include.spark.jobs.map_ocsf` needs, the compiled SQL above all, so that a cluster needs neither this library nor OCSF's schemas.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.ingestion.ocsf.engine import replayed_spec, rules_of
from include.ingestion.ocsf.language import MappingError, load_mapping
from include.ingestion.ocsf.run import RequestRefused
from include.ingestion.ocsf.spark_dialect import spark_plan
from include.ingestion.places import ACCOUNT, REGION
from include.ingestion.sources import Source, SourceError, load_source, mapping_digest

if TYPE_CHECKING:
    from include.ingestion.reading import ReadSpec


def main(arguments: list[str]) -> int:
    """Carry out a request file.

    Returns:
        0: the job's request is there; else the last line on standard error says why not.
    """
    if len(arguments) != 1:
        print("expected one argument, the request file", file=sys.stderr)  # noqa: T201 - a command
        return 2
    try:
        request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        Path(request["job_request"]).write_text(json.dumps(job_request(request), ensure_ascii=False), encoding="utf-8")
    except (RequestRefused, SourceError, MappingError, OSError, KeyError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def job_request(request: dict[str, Any]) -> dict[str, Any]:
    """What the job is asked.

    Args:
        request: the engine's: ``source``, ``batch``, ``objects``, ``out`` (here a URL or folder that the cluster can write), and, if they
        are
            wanted, ``region`` (the lake's), ``mapping_digest``, ``file_bytes``, ``sources_dir``. An object without a ``path`` is read
            from S3.

    Raises:
        RequestRefused: the mapping is another one than the request was made for.
    """
    source = load_source(request["source"], *[Path(folder) for folder in [request.get("sources_dir")] if folder])
    digest = mapping_digest(source)
    if request.get("mapping_digest") not in (None, digest):
        raise RequestRefused(
            f"expected the mapping {request['mapping_digest']}, found {digest}: {source.name} changed on the way; "
            "deploy one version everywhere, then try again"
        )
    rules = replace(
        rules_of(source),
        default_account=source.account_id.default,
        default_region=source.region.default or request.get("region"),
    )
    told: dict[str, Any] = {key: request[key] for key in ("source", "batch", "out", "file_bytes") if key in request}
    return {
        **told,
        "mapping_digest": digest,
        "objects": [_object(item, source) for item in request["objects"]],
        "read": _spec(source.read_spec),
        "read_replayed": _spec(replayed_spec(source.read_spec)),
        "plan": spark_plan(load_mapping(source.mapping_file), rules),
    }


def _object(item: dict[str, Any], source: Source) -> dict[str, Any]:
    replayed = item.get("replay_of")
    match = source.match((replayed or item)["key"])
    return {
        "path": item.get("path"),
        "bucket": item["bucket"],
        "key": item["key"],
        "version_id": item.get("version_id"),
        "etag": item.get("etag"),
        "size": int(item["size"]),
        "account": _fitting(match.account if match and source.account_id.key else None, ACCOUNT),
        "region": _fitting(match.region if match and source.region.key else None, REGION),
        "replayed": replayed is not None,
    }


def _fitting(value: str | None, pattern: str) -> str | None:
    return value if value is not None and re.fullmatch(pattern, value) else None


def _spec(spec: ReadSpec) -> dict[str, Any]:
    return {**asdict(spec), "format": str(spec.format)}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
