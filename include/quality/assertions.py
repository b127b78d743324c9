"""A relation's results as OpenLineage tells them: the dataset facet ``dataQualityAssertions``.

https://openlineage.io/docs/spec/facets/dataset-facets/input-dataset-facets/data_quality_assertions. An assertion either found issues or did
not; one that could not be evaluated is told as not successful, with ``actual`` saying so. It carries no rows and no words of an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.contracts.checks import Severity
from include.quality.report import Outcome
from include.quality.words import measured, threshold

if TYPE_CHECKING:
    from openlineage.client.generated.data_quality_assertions_dataset import (
        Assertion,
        DataQualityAssertionsDatasetFacet,
    )

    from include.quality.report import CheckResult, GateReport

FACET = "dataQualityAssertions"
NOT_EVALUATED = "not evaluated"
_SEVERITIES = {Severity.ERROR: "error", Severity.WARNING: "warn"}


def assertions_facet(report: GateReport, relation: str) -> DataQualityAssertionsDatasetFacet:
    """The facet for ``relation`` as an input of the gate; without assertions if the gate did not check it."""
    from openlineage.client.generated.data_quality_assertions_dataset import DataQualityAssertionsDatasetFacet

    return DataQualityAssertionsDatasetFacet(assertions=[_assertion(result) for result in report.of(relation)])


def _assertion(result: CheckResult) -> Assertion:
    from openlineage.client.generated.data_quality_assertions_dataset import Assertion

    check = result.check
    single = check.columns[0] if len(check.columns) == 1 else None
    return Assertion(
        assertion=check.dimension,
        success=result.outcome is Outcome.PASSED,
        column=single,
        severity=_SEVERITIES[check.severity],
        name=check.key,
        description=check.description,
        expected=threshold(check) or None,
        actual=NOT_EVALUATED if result.outcome is Outcome.ERRORED else measured(result),
        params={"columns": list(check.columns)} if len(check.columns) > 1 else {},
    )
