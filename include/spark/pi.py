"""The job ``spark_pi``, submitted several times at once: what is submitted, and what came of it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from include.platform import connections
from include.spark.exceptions import JobOutputMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow.sdk import Context

    from data_platform.batch_gateway.spec import JobSpec
    from include.platform.settings import Settings
    from include.spark.placement import PlacedJob

log = logging.getLogger(__name__)

JOB: Final = "spark_pi"
MOST_SUBMISSIONS: Final = 50
_RESULT: Final = re.compile(r"^Pi is roughly (\d+(?:\.\d+)?)\s*$", re.MULTILINE)
_LAST_LINES: Final = 10


def plan(placed: PlacedJob, settings: Settings, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spec of each submission. Each has random numbers of its own, so they differ in their last digits.

    Args:
        placed: the job's files.
        settings: the deployment's.
        params: the DAG's: submissions, slices, samples, queue, cluster.
    """
    from data_platform.batch_gateway.spec import Dependencies, DriverSpec, ExecutorSpec, JobSpec

    account = settings.spark_service_account or None
    labels = {"version": settings.spark_version}

    def spec(number: int) -> JobSpec:
        work = {"--slices": params["slices"], "--samples": params["samples"], "--seed": number}
        return JobSpec(
            type="Python",
            python_version="3",
            spark_version=settings.spark_version,
            main_application_file=placed.main_application_file,
            arguments=tuple(str(word) for pair in work.items() for word in pair),
            deps=Dependencies(py_files=placed.py_files) if placed.py_files else None,
            driver=DriverSpec(cores=1, memory="1g", service_account=account, labels=labels),
            executor=ExecutorSpec(instances=1, cores=1, memory="1g", service_account=account, labels=labels),
            queue=params.get("queue"),
            cluster_id=params.get("cluster"),
        )

    return [spec(number).to_mapping() for number in range(params["submissions"])]


@dataclass(frozen=True)
class Estimate:
    """What one submission found.

    Attributes:
        submission_id: of the job.
        cluster: that ran it.
        pi: its result.
    """

    submission_id: str
    cluster: str
    pi: float

    @property
    def line(self) -> str:
        """As the job printed it."""
        return f"Pi is roughly {self.pi}"


@dataclass(frozen=True)
class Summary:
    """What all submissions of a run found; ``estimates`` are in the order of submission."""

    estimates: tuple[Estimate, ...]

    @property
    def pi(self) -> float:
        """The mean: each has as many samples."""
        return fmean(each.pi for each in self.estimates)

    def shares(self) -> list[tuple[str, int, float]]:
        """Cluster, its jobs, and which part of all they are."""
        counts = Counter(each.cluster for each in self.estimates)
        return [(cluster, count, count / len(self.estimates)) for cluster, count in sorted(counts.items())]

    def to_text(self) -> str:
        """For a log."""
        width = max(len("submission"), *(len(each.submission_id) for each in self.estimates))
        lines = [f"{'cluster':{width}} {'jobs':>5} {'share':>7}"]
        lines += [f"{cluster:{width}} {count:5} {share:7.1%}" for cluster, count, share in self.shares()]
        lines += ["", f"{'submission':{width}} driver's log"]
        lines += [f"{each.submission_id:{width}} {each.line}" for each in self.estimates]
        return "\n".join([*lines, "", f"Pi is roughly {self.pi:.6f} by all of them"])

    def to_note(self, most: int) -> str:
        """Markdown for the run's page, of at most so many characters; clusters that don't fit are counted."""
        head = (
            f"Pi is roughly {self.pi:.6f} by {len(self.estimates)} jobs\n\n| Cluster | Jobs | Share |\n|---|---|---|\n"
        )
        rows = [f"| {cluster} | {count} | {share:.1%} |\n" for cluster, count, share in self.shares()]
        for kept in range(len(rows), -1, -1):
            rest = f"and {len(rows) - kept} more clusters" if kept < len(rows) else ""
            if len(text := head + "".join(rows[:kept]) + rest) <= most:
                return text
        return text[:most]

    def to_xcom(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "pi": self.pi,
            "clusters": {cluster: {"jobs": count, "share": share} for cluster, count, share in self.shares()},
            "jobs": [vars(each) | {"line": each.line} for each in self.estimates],
        }


def summarise(jobs: Iterable[Mapping[str, Any]], driver_log: Callable[[str], str]) -> Summary:
    """Read every job's result from its driver's log.

    Args:
        jobs: what the submitting tasks gave.
        driver_log: gives the log of a submission.

    Raises:
        JobOutputMissing: a log does not have it; the message names each such submission.
    """
    estimates, missing = [], []
    for job in jobs:
        text = driver_log(job["submission_id"])
        found = _RESULT.findall(text)
        if found:
            estimates.append(Estimate(job["submission_id"], job["cluster"], float(found[-1])))
        else:
            missing.append(f"{job['submission_id']} on {job['cluster']}: {_instead(text)}")
    if missing:
        raise JobOutputMissing(
            "expected a line 'Pi is roughly …' in the driver's log of every submission, found none of "
            + "; of ".join(missing)
        )
    return Summary(tuple(estimates))


def write_summary(context: Context, jobs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`summarise` what the gateway's jobs found: in the task's log, the run's note, and as plain data."""
    from data_platform.batch_gateway.hook import BatchGatewayHook
    from include.platform.run_page import write_note

    summary = summarise(jobs, BatchGatewayHook(connections.BATCH_GATEWAY).driver_log)
    for line in summary.to_text().splitlines():
        log.info("%s", line)
    write_note(context, summary.to_note)
    return summary.to_xcom()


def _instead(text: str) -> str:
    lines = text.strip().splitlines()
    return f"it ends {' ⏎ '.join(lines[-_LAST_LINES:])!r}" if lines else "the gateway has no log of it"
