"""The facet as the OpenLineage client serialises it."""

from __future__ import annotations

import json

from openlineage.client.serde import Serde

from include.contracts.checks import Severity
from include.quality.assertions import assertions_facet
from include.quality.report import Outcome
from tests.include.quality.conftest import check, counting, report, result

REPORT = report(
    result(check("email-required", "measured = 0", columns=("email",))),
    result(
        check("key", "measured = 0", columns=("id", "email"), dimension="uniqueness", severity=Severity.WARNING),
        Outcome.FAILED,
        measured=3,
        samples=({"id": 4711},),
    ),
    result(
        counting("typo", "x"), Outcome.ERRORED, measured=None, message="could not be evaluated: 'someone@example.com'"
    ),
    result(check("other", "measured = 0", relation="rpt_other")),
)


def serialised(relation):
    return json.loads(Serde.to_json(assertions_facet(REPORT, relation)))


def test_each_check_is_an_assertion_with_what_was_expected_and_found():
    facet = serialised("rpt_sales")

    assert facet["_schemaURL"].endswith("DataQualityAssertionsDatasetFacet")
    required, key, typo = facet["assertions"]
    assert {name: required[name] for name in ("assertion", "success", "column", "severity", "expected", "actual")} == {
        "assertion": "completeness",
        "success": True,
        "column": "email",
        "severity": "error",
        "expected": "= 0",
        "actual": "0",
    }
    assert (key["assertion"], key["success"], key["severity"], key["actual"]) == ("uniqueness", False, "warn", "3")
    assert key["params"] == {"columns": ["id", "email"]}  # the standard names one column only
    assert "column" not in key
    assert (typo["success"], typo["actual"]) == (False, "not evaluated")


def test_nothing_of_a_row_is_in_it():
    text = json.dumps(serialised("rpt_sales"))

    assert "4711" not in text
    assert "someone@example.com" not in text


def test_a_relation_that_was_not_checked_has_no_assertions():
    assert serialised("rpt_none")["assertions"] == []
