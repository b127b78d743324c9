"""A relation's results as Amazon DataZone shows them: one time series data point of its form for data quality.

The form's fields, and that an evaluation's status is PASS or FAIL, are those of the example in
https://docs.aws.amazon.com/datazone/latest/userguide/datazone-data-quality.html. So a check that could not be evaluated is a FAIL that says
so: left out, it would raise the percentage that consumers see. Nothing of a row leaves the platform here: no sample, and of an error no
words, which may quote values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from include.quality.report import Outcome
from include.quality.words import measured, threshold

if TYPE_CHECKING:
    from include.quality.report import CheckResult, GateReport

FORM_TYPE = "amazon.datazone.DataQualityResultFormType"
MAX_CONTENT = 500_000
"""Characters: https://docs.aws.amazon.com/datazone/latest/APIReference/API_TimeSeriesDataPointFormInput.html."""
MAX_FORM_NAME = 128
_DESCRIPTION = 500
_MESSAGE = 300
_FIELDS = 50


def quality_form(report: GateReport, relation: str) -> dict[str, Any]:
    """An entry of ``forms`` for PostTimeSeriesDataPoints (entity type ASSET); the caller may add ``typeRevision``.

    Evaluations that would make it too large are left out, those that passed first; the percentage and the count are always of all.

    Args:
        report: what the gate found.
        relation: one of its relations.

    Raises:
        ValueError: the gate did not check that relation.
    """
    results = report.of(relation)
    if not results:
        raise ValueError(f"expected one of {', '.join(report.relations)}, found {relation!r}; no check of it has run")
    evaluations = [evaluation(result) for result in sorted(results, key=lambda r: r.outcome is Outcome.PASSED)]
    while len(content := _content(evaluations, report.score(relation), len(results))) > MAX_CONTENT:
        evaluations = evaluations[: len(evaluations) * 9 // 10]
    return {
        "formName": f"soda_{results[0].check.product}"[:MAX_FORM_NAME],
        "typeIdentifier": FORM_TYPE,
        "timestamp": report.scanned_at,
        "content": content,
    }


def _content(evaluations: list[dict[str, Any]], percentage: float, count: int) -> str:
    return json.dumps(
        {"evaluations": evaluations, "passingPercentage": percentage, "evaluationsCount": count}, separators=(",", ":")
    )


def evaluation(result: CheckResult) -> dict[str, Any]:
    """One check."""
    check = result.check
    if result.outcome is Outcome.ERRORED:
        told = "could not be evaluated; the reason is in the log of the run's gate"
    else:
        told = f"expected {threshold(check) or 'the rule to hold'}, found {measured(result)}"
    return {
        "types": [check.dimension.capitalize()],
        "description": check.description[:_DESCRIPTION],
        "details": {"EVALUATION_MESSAGE": f"{told} (severity {check.severity.value})"[:_MESSAGE]},
        "applicableFields": list(check.columns[:_FIELDS]),
        "status": "PASS" if result.outcome is Outcome.PASSED else "FAIL",
    }
