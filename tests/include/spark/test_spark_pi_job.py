"""The job spark_pi: its arguments and its result. Spark runs it in the gateway's tests, test_gateway_spark.py."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys

import pytest

from include.spark.jobs import spark_pi
from include.spark.jobs.shared.output import print_line
from include.spark.packages import package_job


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A folder with the packaged job and nothing else of the project."""
    folder = tmp_path_factory.mktemp("cluster")
    for file in package_job("spark_pi").files:
        (folder / file.name).write_bytes(file.content)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slices", "0"], "argument --slices: expected a whole number from 1 to 10000, found '0'"),
        (["--samples", "1e6"], "argument --samples: expected a whole number from 1 to 2147483647, found '1e6'"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to 2147483647, found '-1'"),
        (["--sam", "5"], "unrecognized arguments: --sam 5"),
        (["10"], "unrecognized arguments: 10"),
    ],
)
def test_bad_arguments_end_the_job_before_spark_starts(cluster, arguments, message):
    """There is no Spark here at all."""
    done = subprocess.run(
        [sys.executable, "spark_pi.py", *arguments],
        cwd=cluster,
        env=os.environ | {"PYTHONPATH": "modules.zip"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == f"spark_pi: error: {message}"


def test_more_points_come_nearer_to_pi():
    def error(samples):
        inside = sum(spark_pi.points_inside(1, part, samples) for part in range(4))
        return abs(spark_pi.estimate(inside, 4 * samples) - math.pi)

    assert error(100_000) < 0.01
    assert error(100) > error(100_000)


def test_slices_have_points_of_their_own():
    assert len({spark_pi.points_inside(1, part, 10_000) for part in range(5)}) == 5
    assert spark_pi.points_inside(1, 0, 10_000) != spark_pi.points_inside(2, 0, 10_000)


def test_a_line_is_one_write_so_that_nothing_comes_in_between(monkeypatch):
    """The JVM logs to the same file meanwhile, and Spark runs Python unbuffered."""
    writes = []

    class Log(io.RawIOBase):
        def writable(self):
            return True

        def write(self, content):
            writes.append(bytes(content))
            return len(content)

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Log(), write_through=True))
    print_line("Pi is roughly 3.1")
    assert writes == [b"Pi is roughly 3.1\n"]
