"""The demo's look at the quality gate: what it checked, a broken load that it holds back, the mend."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.local.demo.published import published_version, read_published
from include.local.demo.runs import DONE, DemoError
from include.local.environment import BUCKET
from include.quality.evidence import EvidenceStore
from include.quality.report import Outcome, Verdict

if TYPE_CHECKING:
    from include.local.aurora.source import Aurora
    from include.local.demo.runs import Run, Runs
    from include.local.layout import Layout
    from include.quality.report import GateReport

AREA = "finance"
BUILD, RELEASE = "build_finance_products", "release_finance_products"
SLIP = 1000
"""How far the decimal point slips in the broken load: to some hundred thousand dollars, more than any event's revenue of a quarter."""
PATIENCE_SECONDS = 120

REVENUE_AND_COMMISSION = """
    SELECT sum(sales_revenue), sum(staff_commission) FROM finance.rpt_finance_qtr_total_sales_by_event
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


@dataclass(frozen=True)
class BrokenSale:
    """A sale whose commission is wrong in the source.

    Attributes:
        salesid: which.
        commission: what it was, in US dollars.
    """

    salesid: int
    commission: float


def break_a_commission(aurora: Aurora) -> BrokenSale:
    """Move the decimal point in one commission. It still fits its column, so only who knows what a commission is can tell."""
    with aurora.transaction() as source:
        salesid, commission = source.execute(
            "SELECT salesid, commission FROM sales WHERE saletime IS NOT NULL AND commission < 1000 AND pricepaid IS NOT NULL "
            "ORDER BY commission DESC, salesid LIMIT 1"
        ).fetchone()
        source.execute("UPDATE sales SET commission = commission * ? WHERE salesid = ?", (SLIP, salesid))
    return BrokenSale(salesid, commission)


def mend_the_commission(aurora: Aurora, broken: BrokenSale) -> None:
    """Put it right."""
    with aurora.transaction() as source:
        source.execute("UPDATE sales SET commission = ? WHERE salesid = ?", (broken.commission, broken.salesid))


def wait_for_build(runs: Runs, known: set[str], wanted: str) -> Run:
    """Follow builds that nobody triggers until one ends as ``wanted``; one may have started before the change was replicated.

    Raises:
        DemoError: none did in time.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        run = runs.next_run(BUILD, known, wanted=DONE)
        if run.state == wanted:
            return run
        known = known | {run.run_id}
    raise DemoError(f"{BUILD}: expected a run that ends as {wanted}, found none in {PATIENCE_SECONDS} s")


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


def run_quality(runs: Runs, layout: Layout, aurora: Aurora) -> dict[str, Any]:
    """Show the gate of the newest version, a broken load that is held back, and the mend.

    Raises:
        DemoError: readers saw the broken load, or did not see the mended one.
    """
    store = evidence(runs)
    good = store.load(published_version(layout)["run_id"])
    if good is None:
        raise DemoError("expected the gate's report of the published version, found none")
    shown: dict[str, Any] = {"gate": show_gate(good)}
    before, figures = published_version(layout), read_published(layout, REVENUE_AND_COMMISSION)

    print("\nBreak the source: a commission with a slipped decimal point. Every table and every dbt test is content")
    known = runs.known(BUILD)
    broken = break_a_commission(aurora)
    failed = wait_for_build(runs, known, "failed")
    report = store.load(failed.run_id)
    if report is None or report.verdict is not Verdict.FAILED:
        raise DemoError(f"{failed.run_id}: expected the quality gate to refuse it, found {report and report.verdict}")
    shown["broken"] = show_gate(report) | {"run_id": failed.run_id, "salesid": broken.salesid}
    if published_version(layout) != before or read_published(layout, REVENUE_AND_COMMISSION) != figures:
        raise DemoError("the broken load reached the readers")
    asking = asked_person(runs)
    print(f"Held back: readers keep version {before['version']}. A person is asked in {RELEASE} {asking}")
    shown["held"] = {"readers_keep": before["version"], "asked_in": asking}

    print("\nMend the source; the next build passes and is published by itself")
    known = runs.known(BUILD)
    mend_the_commission(aurora, broken)
    mended = wait_for_build(runs, known, "success")
    after = published_version(layout)
    if after["run_id"] != mended.run_id or read_published(layout, REVENUE_AND_COMMISSION) != figures:
        raise DemoError(f"expected the mended version of {mended.run_id} to be published, found {after}")
    print(f"Published {after['version']}, score {after['quality_score']:.2f} %")
    shown["mended"] = {"run_id": mended.run_id, "version": after["version"], "score": after["quality_score"]}
    return shown
