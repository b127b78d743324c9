"""The generated parts of the documentation: ``make docs`` writes them, a test holds that those which no run has measured are fresh.

A part stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from include.platform.paths import PROJECT_ROOT
from include.platform.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


BENCHMARKS = (
    "demo",
    "freshness",
    "gate",
    "gateway-once",
    "gateway-overhead",
    "gateway-triggerer",
    "lineage-replay",
    "lineage-share",
    "lineage-spool",
    "migration-copy",
    "migration-growth",
    "migration-losses",
    "migration-unavailability",
    "migration-unfenced",
    "orchestration-185",
    "orchestration-tickit",
    "package",
    "parse",
    "replicator",
)
"""Those that README shows; a test compares them with what ``make bench`` runs."""


def workflows(root: Path) -> str:
    """One row per DAG: its file and the first sentence of its docstring."""
    rows = ["| Workflow | |", "|---|---|"]
    for path in sorted((root / "dags").rglob("*.py")):
        page = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        prose = " ".join(page.split("\n\n")[1].split())
        sentence = re.split(r"(?<=[.:;])\s", prose)[0].rstrip(".:;")
        rows.append(f"| [`{path.stem}`]({path.relative_to(root)}) | {sentence} |")
    return "\n".join(rows)


def settings(_root: Path) -> str:
    """One row per deployment setting: option, default, meaning."""
    documentation = inspect.getdoc(Settings) or ""
    meanings = dict(re.findall(r"^ {4}(\w+): (.+)$", documentation, re.MULTILINE))
    rows = ["| Option | Default | Meaning |", "|---|---|---|"]
    for option in fields(Settings):
        default = (
            "`data-platform` in the system's temporary folder"
            if option.name == "scratch_dir"
            else f"`{option.default}`"
        )
        rows.append(f"| `data_platform.{option.name}` | {default} | {meanings[option.name]} |")
    return "\n".join(rows)


def benchmarks(root: Path) -> str:
    """One row per benchmark: what was measured, its figure, the baseline's, the ratio. One that was not run again keeps its row."""
    shown = (root / "README.md").read_text(encoding="utf-8")
    rows = ["| Benchmark | What | Median | Baseline | Ratio |", "|---|---|---|---|---|"]
    for name in BENCHMARKS:
        result = root / "build" / "bench" / f"{name}.json"
        if result.exists():
            rows.append(_row(json.loads(result.read_text(encoding="utf-8"))))
        else:
            rows += re.findall(rf"^\| `{re.escape(name)}` \|.*$", shown, re.MULTILINE)
    return "\n".join(rows)


def _row(told: dict[str, Any]) -> str:
    baseline = f"{told['baseline_median']:.3g} {told['unit']} ({told['baseline']})"
    return f"| `{told['name']}` | {told['what']} | {told['median']:.3g} {told['unit']} | {baseline} | {told['ratio']:.2f} |"


def demo(root: Path) -> str:
    """What the last `make demo` showed."""
    told = json.loads((root / "build" / "demo.json").read_text(encoding="utf-8"))
    if not told["ok"]:
        raise ValueError("build/demo.json: expected a demo that held, found one that failed; run `make demo`")
    finance = told["parts"]["finance"]
    lines = [f"{'DAG run':30} {'started by':16} {'state':8} seconds"]
    lines += [f"{run['dag_id']:30} {run['run_type']:16} {run['state']:8} {run['seconds']:7.1f}" for run in told["runs"]]
    sale = finance["sale"]
    counted = f"{sale['sales_before']} → {sale['sales_after']} sales of {sale['event']}"
    lines += [
        "",
        f"One new sale in the source is in the published report after {finance['sale_to_report_seconds']} s: {counted}",
    ]
    lines += ["", f"{'quarter':9} {'':2} {'top event':32} {'sales':>6} {'revenue':>12}"]
    for top in finance["top_events"]:
        event, revenue = top["event"] or "(unknown)", float(top["revenue"])
        lines.append(
            f"{top['year']} Q{top['quarter']}   {top['rank']:2} {event:32.32} {top['sales']:6} {revenue:12,.2f}"
        )
    parts = told["parts"]
    lines += [*_quality(finance["quality"]), *_lineage(finance["lineage"])]
    lines += [*_ingestion(parts.get("ingestion")), *_spark(parts.get("spark")), *_tenants(parts.get("tenants"))]
    lines += [
        "",
        f"ok after {told['seconds']} s, {told['peak_memory_mib']} MiB at most",
    ]
    return "```\n" + "\n".join(lines) + "\n```"


def _quality(told: dict[str, Any]) -> list[str]:
    """The gate before the broken load, what it found in it, and what readers saw."""
    gate, broken, mended = told["gate"], told["broken"], told["mended"]
    failed = [found for found in broken["not_passed"] if found["severity"] == "error"]
    return [
        "",
        f"Quality gate: {gate['passed']} of {gate['checks']} checks passed, score {gate['score']:.2f} %",
        "A till whose clock was reset dates a sale 1970; the gate holds it back:",
        *(f"  {found['check'].partition('/')[2]:58} {found['message']}" for found in failed),
        f"Readers keep {told['held']['readers_keep']} while a person is asked. Mended, {mended['version']} is published by itself",
    ]


def _lineage(told: dict[str, Any]) -> list[str]:
    """One column's way, the source first, and the delivery."""
    from include.local.demo.lineage import shown_name

    delivery = told["delivery"]
    names = [(*shown_name(step["dataset"]), step["column"]) for step in told["column_path"]]
    return [
        "",
        "Where a reported figure comes from, as the catalog tells it:",
        *(f"  {'→ ' if position else '  '}{relation}.{column}" for position, (_, relation, column) in enumerate(names)),
        f"Lineage events: {delivery['spooled']} spooled = {delivery['accepted']} accepted + {delivery['rejected']} rejected "
        f"+ {delivery['pending']} pending",
    ]


def _ingestion(told: dict[str, Any] | None) -> list[str]:
    """What came in as OCSF events, what was set aside, and that nothing came twice; nothing of a demo without it."""
    if told is None:
        return []
    classes = sorted(told["classes"].items(), key=lambda each: (-each[1], each[0]))
    reasons = sorted(told["reasons"].items(), key=lambda each: (-each[1], each[0]))
    again, replayed = told["sent_again"], told["replayed"]
    return [
        "",
        f"Security logs: {told['read']:,} records read = {told['written']:,} OCSF events + {told['set_aside']} set aside, "
        f"of {told['objects']} objects and a stream",
        *(f"  {name:24} {n:7,}" for name, n in classes),
        "  set aside: " + ", ".join(f"{name} {n}" for name, n in reasons),
        f"  {again['notices']} notices sent again: {again['new']} new, nothing twice",
        f"  {replayed['records']} dead letters replayed without a fix: refused; accepted, {replayed['set_aside']} are dead letters again",
    ]


def _spark(told: dict[str, Any] | None) -> list[str]:
    """How the jobs were shared out, and what each found; nothing of a demo without them."""
    if told is None:
        return []
    clusters = [f"{cluster} {part['jobs']} ({part['share']:.0%})" for cluster, part in told["clusters"].items()]
    return [
        "",
        f"{len(told['jobs'])} Spark jobs through the batch gateway: {', '.join(clusters)}",
        *(f"  {job['submission_id']:47} {job['line']}" for job in told["jobs"]),
    ]


def _tenants(told: dict[str, Any] | None) -> list[str]:
    """The tenant that moved, and what became of its writes meanwhile."""
    if told is None:
        return []
    lost = told["lost_writes"] + told["stale_writes"]
    return [
        "",
        f"Tenant {told['tenant']} moved from {told['from']} to {told['to']} while its clients wrote: {told['items']:,} items",
        f"  {lost} of {told['acknowledged_writes']:,} acknowledged writes lost, {told['failed_reads']} reads failed, "
        f"{told['write_unavailable_seconds']:.2f} s without writes",
        f"  evidence {told['evidence']}",
    ]


HELD: dict[str, tuple[str, Callable[[Path], str]]] = {
    "workflows": ("README.md", workflows),
    "settings": ("docs/deploy.md", settings),
}
"""Parts that a test compares: name, file, function."""

MEASURED: dict[str, tuple[str, Callable[[Path], str]]] = {
    "demo": ("README.md", demo),
    "bench": ("README.md", benchmarks),
}
"""Parts that come from runs on one machine: name, file, function. What was not run again stays as it is."""


def replace_part(text: str, name: str, content: str) -> str:
    """``text`` with the part ``name`` replaced.

    Raises:
        ValueError: the markers are missing.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected the markers {begin} and {end} once each")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def write_docs(root: Path = PROJECT_ROOT) -> list[str]:
    """Write every part; returns the names of those that changed."""
    changed = []
    measured = {
        name: part for name, part in MEASURED.items() if name != "demo" or (root / "build" / "demo.json").exists()
    }
    parts = {**HELD, **measured}
    for name, (file, render) in parts.items():
        path = root / file
        before = path.read_text(encoding="utf-8")
        after = replace_part(before, name, render(root))
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(name)
    return changed
