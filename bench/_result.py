"""One form for every benchmark's result: ``build/bench/<name>.json``."""

from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = PROJECT_ROOT / "build" / "bench"


def write_result(
    name: str,
    *,
    what: str,
    baseline: str,
    unit: str,
    samples: Sequence[float],
    baseline_samples: Sequence[float],
    **extra: Any,
) -> None:
    """Write one result.

    Args:
        name: the benchmark's name, and the file's.
        what: what ``samples`` measure.
        baseline: what ``baseline_samples`` measure.
        unit: of both.
        samples: one figure a run.
        baseline_samples: one figure a run, taken in turn with ``samples``: the ratio is the median of the ratios of each pair, or of
            the medians where the counts differ.
        extra: what else there is to say.
    """
    if len(samples) == len(baseline_samples):
        ratio = statistics.median(a / b for a, b in zip(samples, baseline_samples, strict=True))
    else:
        ratio = statistics.median(samples) / statistics.median(baseline_samples)
    result = {
        "name": name,
        "what": what,
        "baseline": baseline,
        "unit": unit,
        "runs": len(samples),
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "baseline_median": statistics.median(baseline_samples),
        "ratio": ratio,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **extra,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` (0 to 1) of all samples do not exceed."""
    return float(np.percentile(samples, 100 * share, method="inverted_cdf"))
