"""The demo's look at the quality gate: what it checked, a broken load that it holds back, the mend."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.local.demo.published import published_version, read_published
from include.local.demo.runs import DONE, DemoError
from include.local.environment import BUCKET
from include.quality.evidence import EvidenceStore
from include.quality.report import Outcome, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from include.local.aurora.source import Aurora
    from include.local.demo.runs import Run, Runs
    from include.local.layout import Layout
    from include.quality.report import GateReport

AREA = "finance"
BUILD, RELEASE = "build_finance_products", "release_finance_products"
RESET_CLOCK = "1970-01-01 00:00:00"
PATIENCE_SECONDS = 180
STEPS_SECONDS = 120
"""How long breaking, looking and mending may take: no build by the clock may come in between."""
LATE_SECONDS = 60
"""How long after its time the scheduler may need until a build by the clock is there."""

ROWS_AND_REVENUE = """
    SELECT count(*), min(year), sum(sales_revenue), sum(staff_commission) FROM finance.rpt_finance_qtr_total_sales_by_event
"""


def evidence(runs: Runs) -> EvidenceStore:
    """The gate's reports on the running platform."""
    import boto3

    from include.local.catalog.identity import REGION

    url = f"http://127.0.0.1:{runs.ports['aws']}"
    return EvidenceStore(
        lambda: boto3.client(
            "s3", endpoint_url=url, region_name=REGION, aws_access_key_id="local", aws_secret_access_key="local"
        ),
        BUCKET,
        AREA,
    )


def show_gate(report: GateReport) -> dict[str, Any]:
    """Print what the gate checked; returns it for the result file."""
    passed = sum(result.outcome is Outcome.PASSED for result in report.results)
    print(f"\nQuality gate: {passed} of {len(report.results)} checks passed, score {report.score():.2f} %")
    for relation in report.relations:
        results = report.of(relation)
        good = sum(result.outcome is Outcome.PASSED for result in results)
        print(f"  {relation:44} {report.score(relation):6.2f} %  {good:3} of {len(results):3}")
    for result in report.results:
        if result.outcome is not Outcome.PASSED:
            print(f"  {result.check.severity.value:8} {result.check.key}: {result.message}")
    return {
        "verdict": report.verdict.value,
        "score": report.score(),
        "checks": len(report.results),
        "passed": passed,
        "seconds": report.seconds,
        "relations": {relation: report.score(relation) for relation in report.relations},
        "not_passed": [
            {
                "check": result.check.key,
                "severity": result.check.severity.value,
                "measured": result.measured,
                "message": result.message,
            }
            for result in report.results
            if result.outcome is not Outcome.PASSED
        ],
    }


type Seen = tuple[dict[str, Any], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class BrokenSale:
    """A sale whose time is wrong in the source.

    Attributes:
        salesid: which.
        saletime: what it was.
    """

    salesid: int
    saletime: str


def reset_a_clock(aurora: Aurora, note: Path | None = None) -> BrokenSale:
    """Date the newest sale as a till does whose clock was reset. It is a time like any other, so dbt's tests are content with it.

    Args:
        aurora: the source.
        note: file that keeps what is to be mended, in case the caller is killed; see `mend_left_over`.
    """
    with aurora.transaction() as source:
        salesid, saletime = source.execute(
            "SELECT salesid, saletime FROM sales WHERE saletime IS NOT NULL ORDER BY salesid DESC LIMIT 1"
        ).fetchone()
        if note is not None:
            note.write_text(json.dumps({"salesid": salesid, "saletime": saletime}), encoding="utf-8")
        source.execute("UPDATE sales SET saletime = ? WHERE salesid = ?", (RESET_CLOCK, salesid))
    return BrokenSale(salesid, saletime)


def mend_the_time(aurora: Aurora, broken: BrokenSale) -> None:
    """Put it right."""
    with aurora.transaction() as source:
        source.execute("UPDATE sales SET saletime = ? WHERE salesid = ?", (broken.saletime, broken.salesid))


def mend_left_over(aurora: Aurora, note: Path) -> None:
    """Mend what an earlier demo broke and had no time to mend."""
    if note.exists():
        mend_the_time(aurora, BrokenSale(**json.loads(note.read_text(encoding="utf-8"))))
        note.unlink()


def broken_note(layout: Layout) -> Path:
    """The file that keeps what the demo has broken."""
    return layout.root / "demo_broken_sale.json"


def wait_for_build(runs: Runs, known: set[str], wanted: str) -> Run:
    """Follow builds that nobody triggers until one ends as ``wanted``; one may have started before the change was replicated.

    Raises:
        DemoError: none did in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        run = runs.next_run(BUILD, known, timeout=PATIENCE_SECONDS, wanted=DONE)
        if run.state == wanted:
            return run
        known = known | {run.run_id}
    raise DemoError(f"{BUILD}: expected a run that ends as {wanted}, found none in {PATIENCE_SECONDS} s")


def wait_for_the_clock(runs: Runs) -> None:
    """Let the build that comes by the clock pass, where it is about to come, and any that is under way end.

    Raises:
        DemoError: they did not end in time.
    """

    def quiet() -> bool:
        due = runs.api.request("GET", f"/dags/{BUILD}")["next_dagrun_run_after"]
        left = (datetime.fromisoformat(due) - datetime.now(UTC)).total_seconds() if due else STEPS_SECONDS
        return not -LATE_SECONDS < left < STEPS_SECONDS and all(state in DONE for state in runs.states(BUILD).values())

    if not quiet():
        print(f"A run of {BUILD} is due by the clock, or under way: wait until it is over")
        runs.wait_until(f"no build of {BUILD} due or under way", quiet, STEPS_SECONDS + LATE_SECONDS + PATIENCE_SECONDS)


def asked_person(runs: Runs) -> str:
    """The run that waits for a person's decision.

    Raises:
        DemoError: none does.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for run_id, state in runs.states(RELEASE).items():
            if state == "running" and runs.task_state(RELEASE, run_id, "ask_person") == "awaiting_input":
                return run_id
        time.sleep(0.5)
    raise DemoError(f"{RELEASE}: expected a run that asks a person about the held version, found none")


def held_back(runs: Runs, layout: Layout, before: Seen, failed: Run) -> dict[str, Any]:
    """Show what the gate found in the broken load, and that readers see none of it.

    Raises:
        DemoError: they do, or nobody is asked.
    """
    report = evidence(runs).load(failed.run_id)
    if report is None or report.verdict is not Verdict.FAILED:
        raise DemoError(f"{failed.run_id}: expected the quality gate to refuse it, found {report and report.verdict}")
    shown = show_gate(report)
    if seen(layout) != before:
        raise DemoError("the broken load reached the readers")
    asking = asked_person(runs)
    version = before[0]["version"]
    print(f"Held back: readers keep version {version}. A person is asked in {RELEASE} {asking}")
    return {"broken": shown | {"run_id": failed.run_id}, "held": {"readers_keep": version, "asked_in": asking}}


def seen(layout: Layout) -> Seen:
    """What a reader sees: the version, and figures of it."""
    return published_version(layout), read_published(layout, ROWS_AND_REVENUE)


def run_quality(runs: Runs, layout: Layout, aurora: Aurora) -> dict[str, Any]:
    """Show the gate of the newest version, a broken load that is held back, and the mend.

    Raises:
        DemoError: readers saw the broken load, or did not see the mended one.
    """
    wait_for_the_clock(runs)
    store = evidence(runs)
    good = store.load(published_version(layout)["run_id"])
    if good is None:
        raise DemoError("expected the gate's report of the published version, found none")
    shown: dict[str, Any] = {"gate": show_gate(good)}
    before = seen(layout)

    print(
        f"\nBreak the source: a till whose clock was reset dates a sale {RESET_CLOCK[:4]}. Every dbt test is content with that"
    )
    note = broken_note(layout)
    try:
        known = runs.known(BUILD)
        reset_a_clock(aurora, note)
        failed = wait_for_build(runs, known, "failed")
        shown |= held_back(runs, layout, before, failed)
        print("\nMend the source; the next build passes and is published by itself")
        known = runs.known(BUILD)
    finally:
        mend_left_over(aurora, note)
    mended = wait_for_build(runs, known, "success")
    after = published_version(layout)
    if after["run_id"] != mended.run_id or seen(layout)[1] != before[1]:
        raise DemoError(f"expected the mended version of {mended.run_id} to be published, found {after}")
    print(f"Published {after['version']}, score {after['quality_score']:.2f} %")
    shown["mended"] = {"run_id": mended.run_id, "version": after["version"], "score": after["quality_score"]}
    return shown
