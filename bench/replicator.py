"""`replicator`: how fast the change log is drained into the published database, and how far behind it is under load.

Full-size TICKIT. Drained: a backlog of inserts, updates and deletes is applied and published in one cycle. Baseline, taken in turn
on the same machine: as many rows of `sales` read from SQLite and bulk-copied into a new DuckDB file, with no change log,
history or publication. Then, at 500 writes/s with the default interval between publications, the lag of each new sale: from its commit to
the first published file, opened as a consumer opens it, that has it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import psutil

from bench._result import percentile, write_result
from include.local.aurora.__main__ import seed
from include.local.aurora.replicator import PUBLISH_SECONDS, Replicator
from include.local.aurora.snapshot import TARGET_DATABASE
from include.local.aurora.source import Aurora
from include.local.aurora.workload import FIRST_ID, Workload, Written
from include.local.tickit.schema import TABLES
from include.platform.paths import PROJECT_ROOT
from include.warehouse.replaced_file import open_published

RUNS = 5
BACKLOG = 50_000
WRITES_PER_SECOND = 500
SECONDS = 40.0
WARM_UP_SECONDS = 3.0


def drain(replicator: Replicator, workload: Workload) -> float:
    """Rows a second, from a backlog in the log to the published file."""
    written = Written()
    with closing(replicator.aurora.connect()) as connection:
        while written.writes < BACKLOG:
            workload.write(connection, 50, written)
    began = time.perf_counter()
    replicator.cycle()
    return written.writes / (time.perf_counter() - began)


def copy(aurora: Aurora, path: Path) -> float:
    """Rows a second, from the source into a new DuckDB file."""
    path.unlink(missing_ok=True)
    table = TABLES["sales"]
    began = time.perf_counter()
    with closing(aurora.connect()) as source, duckdb.connect(str(path)) as target:
        rows = source.execute(f"SELECT * FROM sales LIMIT {BACKLOG}").fetchall()
        columns = {
            name: np.array(values, dtype=object)
            for name, values in zip(table.column_names, zip(*rows, strict=True), strict=True)
        }
        target.execute(f"CREATE TABLE sales ({table.replica_ddl()})")
        target.register("incoming", columns)
        target.execute("INSERT INTO sales SELECT * FROM incoming")
    return len(rows) / (time.perf_counter() - began)


def watch(path: Path, stop: threading.Event, seen: dict[int, float]) -> None:
    """Note when each new sale is first there to be read."""
    last, newest = 0, FIRST_ID
    while not stop.wait(0.01):
        if not path.exists() or (inode := path.stat().st_ino) == last:
            continue
        last = inode
        with open_published(path) as published:
            rows = published.execute(f"SELECT DISTINCT salesid FROM demodb.sales WHERE salesid > {newest}").fetchall()
        now = time.time()
        seen |= {number: now for (number,) in rows}
        newest = max([newest, *(number for (number,) in rows)])


def lag(aurora: Aurora, directory: Path) -> tuple[list[float], Written, float]:
    """Lag in milliseconds of each sale written under load, what was written, and the CPU the replicator took (cores)."""
    command = [sys.executable, "-m", "include.local.aurora", "--port", "0", "--home", str(aurora.path.parent)]
    process = subprocess.Popen(
        [*command, "--zero-etl", str(directory)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen: dict[int, float] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(directory / f"{TARGET_DATABASE}.duckdb", stop, seen))
    try:
        assert any("ready on" in line for line in process.stdout), "the replicator ended before it was ready"
        watcher.start()
        try:
            before = cpu_seconds(process.pid)
            written = Workload(aurora, seed=900).run(WRITES_PER_SECOND, SECONDS)
            cores = (cpu_seconds(process.pid) - before) / written.seconds
            deadline = time.monotonic() + 15
            while len(seen.keys() & written.committed.keys()) < len(written.committed) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            stop.set()
            watcher.join()
    finally:
        process.terminate()
        process.wait()
    missing = written.committed.keys() - seen.keys()
    assert not missing, f"{len(missing)} sales were never seen"
    first = min(written.committed.values()) + WARM_UP_SECONDS
    return (
        [(seen[number] - moment) * 1000 for number, moment in written.committed.items() if moment >= first],
        written,
        cores,
    )


def cpu_seconds(pid: int) -> float:
    """CPU time a process has taken, its threads included."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="replicator-") as folder:
        aurora, directory = Aurora(Path(folder) / "aurora"), Path(folder) / "zero_etl"
        seed(aurora, "full", 2008)
        with closing(Replicator(aurora, directory, publish_seconds=0.0)) as replicator:
            replicator.connect_database(TARGET_DATABASE)
            began = time.perf_counter()
            replicator.cycle()
            first_load = time.perf_counter() - began
            workload = Workload(aurora, seed=1)
            drained, copied = [], []
            for _ in range(RUNS):
                copied.append(copy(aurora, Path(folder) / "copy.duckdb"))
                drained.append(drain(replicator, workload))
        lags, written, cores = lag(aurora, directory)
    write_result(
        "replicator",
        what=f"{BACKLOG} inserts, updates and deletes: drained from the change log, applied with history, published",
        baseline="bulk copy of as many rows from SQLite into a new DuckDB file",
        unit="rows/s",
        samples=drained,
        baseline_samples=copied,
        first_load_s=first_load,
        lag_p50_ms=percentile(lags, 0.5),
        lag_p99_ms=percentile(lags, 0.99),
        lag_max_ms=max(lags),
        lag_samples=len(lags),
        writes_per_second=written.writes / written.seconds,
        inserts=written.inserts,
        updates=written.updates,
        deletes=written.deletes,
        publish_seconds=PUBLISH_SECONDS,
        replicator_cores=cores,
    )


if __name__ == "__main__":
    main()
