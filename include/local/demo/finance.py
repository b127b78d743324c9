"""The demo's finance part: one new sale from the source into the published report, then a broken load that the gate holds back.

Last it looks at what the catalog was told: one column's way from the source to the report.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from include.local.aurora.source import Aurora
from include.local.demo.lineage import run_lineage
from include.local.demo.published import published_file, read_published
from include.local.demo.quality import broken_note, mend_left_over, run_quality
from include.local.demo.runs import DONE, DemoError, Run, Runs

if TYPE_CHECKING:
    from include.local.layout import Layout

BUILD = "build_finance_products"
SALE_PRICE, SALE_COMMISSION = "321.00", "48.15"
PATIENCE_SECONDS = 180

TOP_EVENTS = """
    SELECT year, quarter, row_num, eventname, sales_made, sales_revenue, commission_pcnt
    FROM finance.rpt_finance_qtr_top_event_by_sales
    ORDER BY year, quarter, row_num, eventname
"""
SALES_OF_EVENT = """
    SELECT coalesce(sum(sales_made), 0)
    FROM finance.rpt_finance_qtr_total_sales_by_event
    WHERE eventname IS NOT DISTINCT FROM ? AND year = ? AND quarter = ?
"""


@dataclass(frozen=True)
class Sale:
    """A sale in the source, and where the report counts it."""

    salesid: int
    event: str
    year: int
    quarter: int


def newest_sale(aurora: Aurora) -> Sale:
    """The sale with the highest id of those that have a time."""
    with closing(aurora.connect()) as source:
        salesid, event, year, month = source.execute(
            """
            SELECT s.salesid, e.eventname, strftime('%Y', s.saletime), strftime('%m', s.saletime)
            FROM sales s JOIN event e USING (eventid)
            WHERE s.saletime IS NOT NULL ORDER BY s.salesid DESC LIMIT 1
            """
        ).fetchone()
    return Sale(salesid, event, int(year), (int(month) + 2) // 3)


def sell_one_more(aurora: Aurora, like: Sale) -> int:
    """Commit a sale of one more ticket of the same listing; returns its id."""
    with aurora.transaction() as source:
        [(salesid,)] = source.execute(
            """
            INSERT INTO sales (salesid, listid, sellerid, buyerid, eventid, dateid, qtysold, pricepaid, commission, saletime)
            SELECT (SELECT max(salesid) + 1 FROM sales), listid, sellerid, buyerid, eventid, dateid, 1, ?, ?, saletime
            FROM sales WHERE salesid = ?
            RETURNING salesid
            """,
            (SALE_PRICE, SALE_COMMISSION, like.salesid),
        ).fetchall()
    return int(salesid)


def first_build(runs: Runs) -> Run:
    """The build that the first checkpoint, or the schedule, has started by itself."""
    states = runs.states(BUILD)
    under_way = sorted(run for run, state in states.items() if state not in DONE)
    return runs.follow(BUILD, under_way[0]) if under_way else runs.next_run(BUILD, set(states))


def run_finance(runs: Runs, layout: Layout) -> dict[str, Any]:
    """Run the part; returns what it has to show.

    Raises:
        DemoError: a run failed, the new sale did not arrive in the report exactly once, the broken load reached readers, or lineage is
            broken.
    """
    aurora = Aurora(layout.aurora)
    mend_left_over(aurora, broken_note(layout))
    print("Connect the zero-ETL integration to the warehouse")
    runs.run("connect_zero_etl")
    if not published_file(layout).exists():
        print("First build: the moved checkpoint or the schedule starts it")
        first_build(runs)

    print("Commit one new sale in the source; nobody triggers anything")
    known = runs.known(BUILD)
    like = newest_sale(aurora)
    place = [like.event, like.year, like.quarter]
    before = read_published(layout, SALES_OF_EVENT, place)[0][0]
    sale = sell_one_more(aurora, like)
    committed = time.monotonic()
    while True:
        run = runs.next_run(BUILD, known)
        after = read_published(layout, SALES_OF_EVENT, place)[0][0]
        if after == before + 1:
            break
        if after != before or time.monotonic() - committed > PATIENCE_SECONDS:
            raise DemoError(f"sale {sale} of {like.event!r}: expected {before + 1} sales in the report, found {after}")
        known.add(run.run_id)  # this run had started before the sale was replicated
    seconds = round(time.monotonic() - committed, 1)
    print(
        f"Sale {sale} ({like.event}, {like.year} Q{like.quarter}) is in the published report {seconds} s after its commit: ",
        end="",
    )
    print(f"{before} → {after} sales")

    top = read_published(layout, TOP_EVENTS)
    print(
        f"\nTop events per quarter\n  {'quarter':8} {'':2} {'event':32} {'sales':>6} {'revenue':>14} {'commission':>10}"
    )
    for year_, quarter_, rank, name, made, revenue, share in top:
        print(f"  {year_:4} Q{quarter_}  {rank:2} {name or '(unknown)':32.32} {made:6} {revenue:14,.2f} {share:10.4f}")
    if not top:
        raise DemoError("the published report of top events is empty")
    quality = run_quality(runs, layout, aurora)
    lineage = run_lineage(runs)
    columns = ("year", "quarter", "rank", "event", "sales", "revenue", "commission_share")
    return {
        "sale_to_report_seconds": seconds,
        "sale": {**asdict(like), "salesid": sale, "sales_before": before, "sales_after": after},
        "top_events": [dict(zip(columns, row, strict=True)) for row in top],
        "quality": quality,
        "lineage": lineage,
    }
