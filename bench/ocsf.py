"""`ocsf` and `ocsf-growth`: raw security logs to validated OCSF in zstd Parquet, end to end.

`ocsf`: a million generated Network Firewall events, and Windows Sysmon events (the real ones of the folder that
``DATA_PLATFORM_SHARED_DATA`` names, else the shipped samples), each on one thread and on two. Baseline, taken in turn on the same machine:
a mapper that walks the same mapping for each event, as the AWS library does; it neither validates nor sorts nor keeps the rest. Beside it,
without a limit, the same with the mapping turned into Python closures once, the fastest per-event mapper we know to write.

`ocsf-growth`: one and ten million events. Memory must not grow, and an event must not cost more.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._result import write_result
from bench.mapping.generate import write
from include.ingestion.sources import load_source
from include.platform.paths import PROJECT_ROOT
from include.platform.settings import load_settings

ROUNDS = 3
EVENTS = int(os.environ.get("BENCH_OCSF_EVENTS", "1000000"))
FILE_EVENTS = 50_000
BASELINE_EVENTS = 100_000
SYSMON_REPEATS = 40
"""The real files are 1,747 events: too few to time, so each run reads them that often."""
GROWTH = (EVENTS, 10 * EVENTS)
FIREWALL = "AWSLogs/111122223333/network-firewall/flow/eu-central-1/edge/2024/05/01/10/{}.log.gz"


@dataclass(frozen=True)
class Run:
    """One run of the engine.

    Attributes:
        events: read, and written or set aside.
        seconds: wall clock, with the start of its process.
        peak_mib: of its largest process.
    """

    events: int
    seconds: float
    peak_mib: float

    @property
    def microseconds(self) -> float:
        """Wall clock for one event."""
        return self.seconds * 1e6 / self.events


def engine(source: str, files: list[Path], key: str, threads: int, folder: Path) -> Run:
    """Map files as the intake has the engine do it: a process of the warehouse environment."""
    out = Path(tempfile.mkdtemp(dir=folder))
    objects = [
        {
            "path": str(file),
            "bucket": "raw",
            "key": key.format(place),
            "version_id": str(place),
            "etag": "e",
            "size": file.stat().st_size,
        }
        for place, file in enumerate(files)
    ]
    request = out / "request.json"
    asked = {
        "source": source,
        "batch": "bench",
        "objects": objects,
        "out": str(out),
        "threads": threads,
        "region": "eu-central-1",
    }
    request.write_text(json.dumps(asked), encoding="utf-8")
    python = Path(load_settings().warehouse_venv) / "bin" / "python"
    began = time.perf_counter()
    process = subprocess.Popen([str(python), "-m", "include.ingestion.ocsf.run", str(request)], cwd=PROJECT_ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ocsf: the engine ended with status {process.returncode}")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    if not result["read"] == result["written"] + result["set_aside"] or result["set_aside"]:
        raise SystemExit(
            f"ocsf: expected every event to be written, found {result['set_aside']} of {result['read']} set aside"
        )
    for output in result["outputs"]:
        Path(output["path"]).unlink()
    return Run(result["read"], seconds, usage.ru_maxrss / 1024)


def baseline(how: str, source: str, files: list[Path], folder: Path) -> float:
    """Microseconds an event of a per-event mapper."""
    out = tempfile.mkdtemp(dir=folder)
    done = subprocess.run(
        [sys.executable, "-m", "bench.mapping.baseline", how, source, out, *map(str, files)],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return float(told["seconds"] * 1e6 / told["events"])


def flows(folder: Path, events: int) -> list[Path]:
    """Files of generated Network Firewall events."""
    files = []
    for place in range(events // FILE_EVENTS):
        files.append(folder / f"flows-{place}.log.gz")
        write(files[-1], FILE_EVENTS, seed=place + 1, level=6)
    return files


def sysmon(folder: Path) -> tuple[list[Path], str]:
    """Files of Sysmon events, and what they are."""
    shared = os.environ.get("DATA_PLATFORM_SHARED_DATA")
    real = sorted((Path(shared) / "sysmon").glob("*.jsonl")) if shared else []
    what = "the real Sysmon files" if real else "the shipped Sysmon samples"
    samples = load_source("windows_sysmon").folder / "samples"
    found = real or [path for path in sorted(samples.glob("*.jsonl")) if not path.name.startswith("bad")]
    text = b"".join(line + b"\n" for path in found for line in path.read_bytes().splitlines() if line.strip())
    files = []
    for place in range(2):
        files.append(folder / f"sysmon-{place}.jsonl.gz")
        with gzip.open(files[-1], "wb", compresslevel=6) as file:
            for _ in range(SYSMON_REPEATS // 2):
                file.write(text)
    return files, what


def compare(folder: Path) -> None:
    """`ocsf`."""
    events, (records, what) = flows(folder, EVENTS), sysmon(folder)
    fewer = events[: BASELINE_EVENTS // FILE_EVENTS]
    subjects: dict[str, tuple[str, list[Path], list[Path], str]] = {
        "firewall": ("aws_network_firewall", events, fewer, FIREWALL),
        "sysmon": ("windows_sysmon", records, records, "windows-sysmon/{}.jsonl.gz"),
    }
    engine("aws_network_firewall", fewer, FIREWALL, 1, folder)  # both read the same files from the disk's cache
    runs: dict[tuple[str, int], list[Run]] = {}
    bases: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name, (source, all_files, some, key) in subjects.items():
            for how in ("interpreter", "closures"):
                bases.setdefault((name, how), []).append(baseline(how, source, some, folder))
            for threads in (1, 2):
                runs.setdefault((name, threads), []).append(engine(source, all_files, key, threads, folder))
    told: dict[str, Any] = {}
    for (name, threads), found in runs.items():
        ratio = statistics.median(
            run.microseconds / base for run, base in zip(found, bases[name, "interpreter"], strict=True)
        )
        closures = statistics.median(
            run.microseconds / base for run, base in zip(found, bases[name, "closures"], strict=True)
        )
        prefix = f"{name}_{threads}_thread{'s' if threads > 1 else ''}"
        told[f"{prefix}_events_per_second"] = round(1e6 / statistics.median(run.microseconds for run in found))
        told[f"{prefix}_peak_mib"] = round(max(run.peak_mib for run in found))
        told[f"{prefix}_of_baseline"] = ratio
        told[f"{prefix}_times_as_fast"] = round(1 / ratio, 1)
        told[f"{prefix}_times_as_fast_as_closures"] = round(1 / closures, 1)
    one = [run.microseconds for run in runs["firewall", 1]]
    write_result(
        "ocsf",
        what=f"{EVENTS:,} Network Firewall events: read, map, validate every one, write zstd Parquet; one thread, end to end",
        baseline="a mapper that walks the same mapping for each event, as the AWS library does, without validation",
        unit="µs/event",
        samples=one,
        baseline_samples=bases["firewall", "interpreter"],
        **told,
        baseline_events_per_second=round(1e6 / statistics.median(bases["firewall", "interpreter"])),
        closures_events_per_second=round(1e6 / statistics.median(bases["firewall", "closures"])),
        sysmon_baseline_events_per_second=round(1e6 / statistics.median(bases["sysmon", "interpreter"])),
        sysmon_events=f"{what}, {SYSMON_REPEATS} times",
        baseline_microseconds=statistics.median(bases["firewall", "interpreter"]),
        limits={
            "baseline_microseconds": 250,  # a baseline below 4,000 events/s would be no rival
            "firewall_1_thread_of_baseline": 1 / 10,
            "firewall_2_threads_of_baseline": 1 / 15,
        },
    )


def growth(folder: Path) -> None:
    """`ocsf-growth`. Large runs read the same files again and again, as other objects."""
    files = flows(folder, min(EVENTS, 1_000_000))
    found: dict[int, list[Run]] = {size: [] for size in GROWTH}
    for _ in range(2):
        for size in GROWTH:
            found[size].append(engine("aws_network_firewall", files * (size // EVENTS), FIREWALL, 1, folder))
    small, large = (found[size] for size in GROWTH)
    memory = max(run.peak_mib for run in large) / max(run.peak_mib for run in small)
    cost = statistics.median(a.microseconds / b.microseconds for a, b in zip(large, small, strict=True))
    write_result(
        "ocsf-growth",
        what=f"one event of {GROWTH[1]:,}",
        baseline=f"one event of {GROWTH[0]:,}",
        unit="µs/event",
        samples=[run.microseconds for run in large],
        baseline_samples=[run.microseconds for run in small],
        peak_mib={size: round(max(run.peak_mib for run in runs)) for size, runs in found.items()},
        memory_of_baseline=memory,
        cost_of_baseline=cost,
        limits={"memory_of_baseline": 1.25, "cost_of_baseline": 1.15},
    )


def main(argv: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="ocsf-") as folder:
        (growth if "ocsf-growth" in argv else compare)(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
