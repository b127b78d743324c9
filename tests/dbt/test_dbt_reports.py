"""What the reports say, against an oracle that knows neither SQL nor dbt."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.dbt.harness import LOADED_AT, UNKNOWN_EVENT, UNKNOWN_VENUES, Built

pytestmark = pytest.mark.warehouse

FINANCE = "build_finance_audit"
Row = tuple[Any, ...]


def read(files: Path, table: str) -> list[list[str | None]]:
    with (files / f"{table}.txt").open(encoding="utf-8", newline="") as file:
        return [
            [None if text == "\\N" else text for text in row]
            for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)
        ]


def total_sales_by_event(files: Path) -> list[Row]:
    """The post's first report from the raw files: every sale, by year, quarter and its event's name or None."""
    names = {row[0]: row[4] for row in read(files, "event")}
    groups: dict[Row, list[Row]] = defaultdict(list)
    for row in read(files, "sales"):
        sold = datetime.fromisoformat(row[9] or "")
        groups[sold.year, (sold.month + 2) // 3, names.get(row[4])].append(row)
    totals = []
    for key, sales in groups.items():
        revenue, commission = total(row[7] for row in sales), total(row[8] for row in sales)
        totals.append((*key, len(sales), revenue, commission, share(commission, revenue)))
    return totals


def total(amounts: Iterable[str | None]) -> Decimal | None:
    known = [Decimal(amount) for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None


def share(part: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return (part / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP) if whole and part is not None else None


def top_event_by_sales(totals: list[Row]) -> list[Row]:
    """The post's second report: rank by revenue within the quarter, equal revenues sharing a rank, the first three."""
    top = []
    for row in totals:
        quarter = [other[4] for other in totals if other[:2] == row[:2]]
        rank = 1 + sum(revenue is not None and (row[4] is None or revenue > row[4]) for revenue in quarter)
        if rank <= 3:
            top.append((*row, rank))
    return top


def ordered(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row[:2], row[2] is not None, row[2] or ""))


@pytest.fixture(params=["built", "built_real"])
def any_built(request: pytest.FixtureRequest) -> Built:
    found: Built = request.getfixturevalue(request.param)
    return found


def test_both_reports_agree_with_the_oracle_to_the_cent(any_built: Built) -> None:
    totals = total_sales_by_event(any_built.files)
    assert len(totals) > 200
    reported = any_built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_total_sales_by_event")
    assert ordered([row[:7] for row in reported]) == ordered(totals)
    top = any_built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_top_event_by_sales")
    assert ordered([row[:8] for row in top]) == ordered(top_event_by_sales(totals))
    assert {row[7] for row in reported} == {row[8] for row in top} == {LOADED_AT}


def test_events_whose_prices_are_not_known_have_no_revenue_and_rank_last(built: Built) -> None:
    reported = built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_total_sales_by_event")
    assert any(row[4:7] == (None, None, None) for row in reported)
    assert all(row[4] for row in built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_top_event_by_sales"))


def test_sales_of_missing_events_are_reported_under_a_null_name(built: Built) -> None:
    reported = built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_total_sales_by_event")
    orphans = sum(row[4] == str(UNKNOWN_EVENT) for row in read(built.files, "sales"))
    assert sum(row[3] for row in reported if row[2] is None) == orphans > 0


def test_commission_share_keeps_four_exact_decimals_and_is_null_without_revenue(built: Built) -> None:
    shares = [row[6] for row in built.warehouse.rows(f"{FINANCE}.rpt_finance_qtr_total_sales_by_event")]
    assert None in shares
    assert all(isinstance(value, Decimal) and value.as_tuple().exponent == -4 for value in shares if value is not None)


def test_unknown_venues_are_shown_and_keep_their_sales(built: Built) -> None:
    venues = {row[0]: row for row in built.warehouse.rows(f"{FINANCE}.rpt_finance_best_selling_venues")}
    place = {row[0]: row[1] for row in read(built.files, "event")}
    expected: dict[int | None, Decimal] = defaultdict(Decimal)
    for row in read(built.files, "sales"):
        venue = place.get(row[4])
        expected[int(venue) if venue else None] += Decimal(row[7] or 0)
    assert {venue: row[8] for venue, row in venues.items()} == expected
    assert {venues[venue][1] for venue in (*UNKNOWN_VENUES, None)} == {"Unknown venue"}
    assert "Unknown venue" not in {row[1] for venue, row in venues.items() if venue not in (*UNKNOWN_VENUES, None)}


def test_real_events_of_the_three_missing_venues_are_kept_and_counted(built_real: Built) -> None:
    assert built_real.run.results()["stg_tickit__events_known_orphans"] == ("warn", 139)
    described = built_real.warehouse.rows("build_intermediate.int_events_described")
    unknown = [row[9] for row in described if row[10] == "Unknown venue"]
    assert len(described) == 8_798
    assert {venue: unknown.count(venue) for venue in UNKNOWN_VENUES} == {12: 47, 51: 36, 64: 56}
    assert len(unknown) == 139
