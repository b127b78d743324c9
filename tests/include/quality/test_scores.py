"""DataZone's form, held to botocore's own service model."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.stub import Stubber

from include.contracts.checks import Severity
from include.quality.report import Outcome
from include.quality.scores import MAX_CONTENT, quality_form
from tests.include.quality.conftest import SCANNED_AT, check, counting, report, result

PASSED = result(counting("ids", "id < 0", columns="id"))
FAILED = result(
    counting("addresses", "email is null", description="Every sale has an address."),
    Outcome.FAILED,
    measured=7,
    samples=({"id": 4711},),
    message="expected = 0, found 7",
)
ERRORED = result(
    check("typo", "max(salary) = 0", dimension="accuracy", severity=Severity.WARNING, columns=("salary",)),
    Outcome.ERRORED,
    measured=None,
    message="could not be evaluated: value 'someone@example.com'",
)
REPORT = report(PASSED, FAILED, ERRORED)


def content(form):
    return json.loads(form["content"])


def test_each_check_is_an_evaluation_those_that_did_not_pass_first():
    form = quality_form(REPORT, "rpt_sales")

    assert {key: form[key] for key in ("formName", "typeIdentifier", "timestamp")} == {
        "formName": "soda_sales",
        "typeIdentifier": "amazon.datazone.DataQualityResultFormType",
        "timestamp": SCANNED_AT,
    }
    told = content(form)
    assert (told["passingPercentage"], told["evaluationsCount"]) == (33.33, 3)
    assert [evaluation["status"] for evaluation in told["evaluations"]] == ["FAIL", "FAIL", "PASS"]
    assert told["evaluations"][0] == {
        "types": ["Completeness"],
        "description": "Every sale has an address.",
        "details": {"EVALUATION_MESSAGE": "expected = 0, found 7 (severity error)"},
        "applicableFields": [],
        "status": "FAIL",
    }


def test_a_check_that_could_not_be_evaluated_fails_and_says_so_without_the_databases_words():
    told = content(quality_form(REPORT, "rpt_sales"))["evaluations"][1]

    assert told["status"] == "FAIL"
    assert told["types"] == ["Accuracy"]
    assert told["applicableFields"] == ["salary"]
    assert told["details"]["EVALUATION_MESSAGE"].startswith("could not be evaluated; the reason is in the log")


def test_nothing_of_a_row_is_in_it():
    form = quality_form(REPORT, "rpt_sales")

    assert "4711" not in form["content"]
    assert "someone@example.com" not in form["content"]


def test_a_form_that_would_be_too_large_leaves_out_what_passed_and_counts_all():
    many = [result(counting(f"rule_{n}", "id = 1", description="d" * 600, columns="id")) for n in range(1500)]
    form = quality_form(report(*many, FAILED), "rpt_sales")

    told = content(form)
    assert len(form["content"]) <= MAX_CONTENT
    assert told["evaluationsCount"] == 1501
    assert len(told["evaluations"]) < 1501
    assert told["evaluations"][0]["status"] == "FAIL"
    assert told["passingPercentage"] == pytest.approx(99.93)


def test_the_service_model_takes_it():
    client = boto3.client("datazone", region_name="us-east-1")
    arguments = {
        "domainIdentifier": "dzd_abcdefghijklm",
        "entityIdentifier": "abc123",
        "entityType": "ASSET",
        "forms": [quality_form(REPORT, "rpt_sales")],
    }
    with Stubber(client) as stub:
        stub.add_response("post_time_series_data_points", {}, arguments)
        client.post_time_series_data_points(**arguments)


def test_a_relation_that_was_not_checked_is_refused():
    with pytest.raises(ValueError, match="expected one of rpt_sales, found 'rpt_other'"):
        quality_form(REPORT, "rpt_other")
