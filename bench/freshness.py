"""`freshness`: from a commit in the local Aurora to the published report, each followed by a row of its own.

Full-size TICKIT, 20 writes a second, the default minimum interval between builds, until 50 publications have been seen. Every second one
more sale is committed in a quarter that no other sale has, so that it is one row of the published report; it is visible when a reader that
opens the published file finds that row. Baseline: the seconds of the build runs themselves, so that the ratio says how many runs' time a
change waits.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from bench._result import percentile, write_result
from include.local.aurora.workload import Workload
from include.local.demo.finance import BUILD, first_build, newest_sale
from include.local.demo.published import published_file, read_published
from include.local.demo.runs import seconds_between
from include.local.trial import Trial, trial_platform

PUBLICATIONS = 50
WRITES_PER_SECOND = 20
LONGEST_SECONDS = 3600
FIRST_YEAR = 3000
"""Traced sales get the quarters from here on: a year that no generated sale has."""
VISIBLE = f"SELECT year, quarter FROM finance.rpt_finance_qtr_total_sales_by_event WHERE year >= {FIRST_YEAR}"
VERSION = "SELECT version FROM finance._publication"
TRACED_ID = 2_000_000_000


class Tracer(threading.Thread):
    """Commits one traced sale a second."""

    def __init__(self, trial: Trial, stop: threading.Event) -> None:
        super().__init__()
        self.trial = trial
        self.stop = stop
        self.committed: dict[tuple[int, int], float] = {}

    def run(self) -> None:
        like = newest_sale(self.trial.aurora).salesid
        number = 0
        while not self.stop.wait(1):
            year, quarter = FIRST_YEAR + number // 4, number % 4 + 1
            with self.trial.aurora.transaction() as source:
                source.execute(
                    """
                    INSERT INTO sales (salesid, listid, sellerid, buyerid, eventid, dateid, qtysold, pricepaid, commission, saletime)
                    SELECT ?, listid, sellerid, buyerid, eventid, dateid, 1, 10, 1.5, ? FROM sales WHERE salesid = ?
                    """,
                    (TRACED_ID + number, f"{year}-{quarter * 3:02}-15 12:00:00", like),
                )
            self.committed[year, quarter] = time.time()
            number += 1


def watch(trial: Trial) -> tuple[dict[tuple[int, int], float], int]:
    """When each traced quarter was first seen in the published report, and how many publications that took."""
    seen: dict[tuple[int, int], float] = {}
    versions: set[str] = set()
    began = time.monotonic()
    while len(versions) <= PUBLICATIONS and time.monotonic() - began < LONGEST_SECONDS:
        version = read_published(trial.layout, VERSION)[0][0]
        if version not in versions:
            versions.add(version)
            rows = read_published(trial.layout, VISIBLE)
            now = time.time()
            for year, quarter in rows:
                seen.setdefault((int(year), int(quarter)), now)
            print(f"  {len(versions) - 1} publications, {len(seen)} traced sales seen", flush=True)
        time.sleep(0.2)
    return seen, len(versions) - 1


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="freshness-") as folder,
        trial_platform(Path(folder), tickit="full") as trial,
    ):
        trial.runs.run("connect_zero_etl")
        if not published_file(trial.layout).exists():
            first_build(trial.runs)
        stop = threading.Event()
        workload = Workload(trial.aurora, seed=1)
        writer = threading.Thread(target=workload.run, args=(WRITES_PER_SECOND, LONGEST_SECONDS, stop))
        tracer = Tracer(trial, stop)
        writer.start()
        tracer.start()
        try:
            seen, publications = watch(trial)
        finally:
            stop.set()
            writer.join()
            tracer.join()
        if publications < PUBLICATIONS:
            raise SystemExit(f"expected {PUBLICATIONS} publications in {LONGEST_SECONDS} s, found {publications}")
        newest = max(tracer.committed[key] for key in seen)
        lost = [key for key, moment in tracer.committed.items() if moment < newest and key not in seen]
        if lost:
            raise SystemExit(
                f"{len(lost)} traced sales are older than the newest published one but not published: {lost[:5]}"
            )
        waits = [moment - tracer.committed[key] for key, moment in seen.items()]
        runs = [
            seconds_between(run["start_date"], run["end_date"])
            for run in trial.runs.newest(BUILD)
            if run["state"] == "success"
        ]
    write_result(
        "freshness",
        what=f"commit to published report at {WRITES_PER_SECOND} writes/s",
        baseline="one build run",
        unit="s",
        samples=waits,
        baseline_samples=runs,
        p50_s=percentile(waits, 0.5),
        p99_s=percentile(waits, 0.99),
        publications=publications,
        limits={"p50_s": 45, "p99_s": 90},
    )


if __name__ == "__main__":
    main()
