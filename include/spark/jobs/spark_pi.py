"""Pi by the Monte Carlo method: the share of random points of a square that its inscribed circle holds.

The same seed, slices and samples give the same digits, on whatever cluster.
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import TYPE_CHECKING

from include.spark.jobs.shared.arguments import whole_number
from include.spark.jobs.shared.output import print_line
from include.spark.jobs.shared.session import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 2**31 - 1


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a malformed one ends the job with status 2."""
    parser = argparse.ArgumentParser(prog="spark_pi", description="Pi by the Monte Carlo method", allow_abbrev=False)
    parser.add_argument("--slices", type=whole_number(1, 10_000), default=2, help="tasks that share the work")
    parser.add_argument("--samples", type=whole_number(1, MOST), default=100_000, help="random points per slice")
    parser.add_argument("--seed", type=whole_number(0, MOST), default=0, help="where the random numbers begin")
    return parser.parse_args(arguments)


def points_inside(seed: int, slice_number: int, samples: int) -> int:
    """How many of a slice's random points are in the circle."""
    source = random.Random(f"{seed}/{slice_number}")  # noqa: S311 - no secret; a text seeds alike in every process
    return sum(source.random() ** 2 + source.random() ** 2 <= 1 for _ in range(samples))


def estimate(inside: int, points: int) -> float:
    """Pi, from how many of the points were in the circle."""
    return 4 * inside / points


def main(arguments: Sequence[str]) -> int:
    """Run the job; the result is the line ``Pi is roughly …`` in the driver's log."""
    options = parse_arguments(arguments)
    from pyspark.sql import SparkSession

    session = SparkSession.builder.getOrCreate()
    try:
        print_line(describe(session))
        seed, samples = options.seed, options.samples
        inside = (
            session.sparkContext.parallelize(range(options.slices), options.slices)
            .map(lambda slice_number: points_inside(seed, slice_number, samples))
            .sum()
        )
        print_line(f"Pi is roughly {estimate(inside, options.slices * samples)}")
    finally:
        session.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
