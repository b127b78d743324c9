"""What becomes of a version that the gate refuses: held, asked about, released or not; on files and with S3 as the stand-in serves it."""

from __future__ import annotations

import json
import types
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import duckdb
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.sdk.execution_time.context import OutletEventAccessors

from include.contracts.checks import Severity
from include.local.aws.trial import trial_aws
from include.platform.assets import FINANCE_HELD, FINANCE_HELD_VERSIONS, FINANCE_PRODUCTS
from include.quality.evidence import EvidenceStore
from include.quality.held import HeldStore
from include.quality.operators import (
    KEEP,
    PUBLISH,
    AskPersonOperator,
    FindHeldOperator,
    HoldProductsOperator,
    ReleaseHeldOperator,
)
from include.quality.report import Outcome
from include.warehouse.connection import DuckDbConnection
from include.warehouse.operators import PublishProductsOperator
from include.warehouse.products import Product
from include.warehouse.publication import Publication
from include.warehouse.publish import current_version, publish
from include.warehouse.run_state import RunStateStore
from tests.include.quality.conftest import counting, report, result

BUCKET = "data-platform"
BAD = report(result(counting("ids", "id < 0"), Outcome.FAILED, measured=3), result(counting("more", "id < 9")))
GOOD = report(result(counting("ids", "id < 0")))
USER = {"id": "7", "name": "mia"}
REASON = "The venue is new and right"


@pytest.fixture(scope="module")
def endpoint():
    with trial_aws([BUCKET]) as url:
        yield url


class Platform:
    """One area with a warehouse of its own, and what Airflow would hand to its tasks."""

    def __init__(self, folder, s3, area):
        self.product = Product(area, ("rpt_a",))
        self.warehouse = DuckDbConnection(folder / "work.duckdb", folder / "published", {})
        self.s3, self.area = s3, area
        self.results, self.outlet_events = {}, OutletEventAccessors()
        self.held = HeldStore(lambda: s3, BUCKET, area)
        self.number = 0

    def build(self, run_id, found=BAD):
        """What ``build_models`` and ``check_quality`` leave behind."""
        self.number += 1
        build = f"{run_id}-{self.number}"
        with duckdb.connect(str(self.warehouse.path)) as connection:
            connection.execute(f"create schema if not exists build_{self.area}_audit")
            connection.execute(
                f"create or replace table build_{self.area}_audit.rpt_a as select {self.number} as number"
            )
        self.claim(run_id, build)
        if found is not None:
            EvidenceStore(lambda: self.s3, BUCKET, self.area).save(run_id, replace(found, build=build))

    def claim(self, run_id, build=None):
        RunStateStore(lambda: self.s3, BUCKET, dag_id="build", run_id=run_id, task_id="build_models").claim(build)

    def context(self, run_id):
        ti = types.SimpleNamespace(
            dag_id="build",
            run_id=run_id,
            task_id="task",
            try_number=1,
            log_url="http://airflow/log",
            xcom_pull=lambda task_ids: self.results.get(task_ids),
        )
        return {"ti": ti, "params": {}, "outlet_events": self.outlet_events}

    def hold(self, run_id):
        self.outlet_events = OutletEventAccessors()
        return HoldProductsOperator(
            task_id="hold", product=self.product, health_task_id="health", build_task_id="build_models"
        ).execute(self.context(run_id))

    def publish(self, run_id):
        return PublishProductsOperator(
            task_id="publish",
            product=self.product,
            health_task_id="health",
            build_task_id="build_models",
            retire_task_id="retire",
            docs_task_id="docs",
            catalog_task_id="catalog",
        ).choose_branch(self.context(run_id))

    @property
    def asked(self):
        """Whether the last `hold` starts the DAG that asks a person."""
        return [event.dest_asset_key.name for event in self.outlet_events[FINANCE_HELD_VERSIONS].asset_alias_events]

    def find(self):
        self.results["find"] = FindHeldOperator(
            task_id="find", product=self.product, answer_within=timedelta(hours=1)
        ).execute(self.context("release"))
        return self.results["find"]

    def decide(self, choice, user=USER, reason=REASON):
        self.outlet_events = OutletEventAccessors()
        self.results["ask"] = {
            "chosen_options": [choice],
            "params_input": {"reason": reason},
            "responded_at": datetime.now(UTC),
            "responded_by_user": user,
        }
        return self.release()

    def release(self):
        return ReleaseHeldOperator(
            task_id="release", product=self.product, find_task_id="find", ask_task_id="ask"
        ).execute(self.context("release"))

    def readers_see(self):
        with duckdb.connect(
            str(self.warehouse.published_dir / f"{self.area}_products.duckdb"), read_only=True
        ) as connection:
            return connection.execute(
                f"select number, released_by, release_reason, run_id, quality_score from {self.area}.rpt_a, {self.area}._publication"
            ).fetchone()

    def decisions(self):
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"quality/{self.area}/_decisions/").get("Contents", [])
        return [json.loads(self.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()) for entry in found]


@pytest.fixture
def platform(endpoint, tmp_path, request, monkeypatch):
    s3 = boto3.client("s3", endpoint_url=endpoint)
    area = request.node.name.split("[")[0].removeprefix("test_")[:30]
    made = Platform(tmp_path, s3, area)
    aws = {"conn_type": "aws", "extra": {"region_name": "us-east-1", "endpoint_url": endpoint}}
    extra = {"published_dir": str(made.warehouse.published_dir)}
    warehouse = {"conn_type": "duckdb", "host": str(made.warehouse.path), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BUILD", json.dumps(warehouse))
    return made


def test_the_first_version_that_is_held_asks_a_person_and_the_next_ones_replace_it_quietly(platform):
    platform.build("one")
    first = platform.hold("one")
    assert platform.asked == [FINANCE_HELD.name]

    platform.build("two")
    second = platform.hold("two")

    assert platform.asked == []
    held = platform.held.load()
    assert (held.version, held.run_id, held.score) == (second["held"], "two", 50.0)
    assert second["held"] > first["held"]


def test_what_a_person_is_being_asked_about_is_not_replaced(platform):
    platform.build("one")
    platform.hold("one")
    found = platform.find()
    platform.build("two")

    assert platform.hold("two") == {"held": found["version"], "of_run": "one"}

    platform.decide(PUBLISH)
    assert platform.readers_see() == (1, "mia", REASON, "one", 50.0)


def test_holding_again_after_a_try_that_died_holds_once(platform):
    platform.build("one")
    platform.hold("one")

    again = platform.hold("one")

    assert platform.held.load().version == again["held"]
    assert platform.asked == [FINANCE_HELD.name]  # of the try that died Airflow has heard nothing
    platform.find()
    platform.decide(PUBLISH)
    assert platform.readers_see()[0] == 1


@pytest.mark.parametrize("found", [None, GOOD], ids=["no report", "passed"])
def test_nothing_is_held_that_the_gate_has_not_refused(platform, found):
    platform.build("one", found)

    with pytest.raises(AirflowSkipException, match="refused nothing in this run"):
        platform.hold("one")

    assert platform.held.load() is None


def test_a_run_does_not_hold_what_another_has_built_since(platform):
    platform.build("one")
    platform.claim("two")

    with pytest.raises(AirflowFailException, match="run two has built since; nothing was changed"):
        platform.hold("one")

    assert platform.held.load() is None


def test_what_the_gate_has_not_judged_is_not_held_under_an_earlier_verdict_of_the_same_run(platform):
    platform.build("one")
    platform.build("one", found=None)  # cleared and built again; the gate died

    with pytest.raises(AirflowSkipException, match="of an earlier build of this run"):
        platform.hold("one")

    assert platform.held.load() is None


WARNED = report(result(counting("ids", "id < 0", severity=Severity.WARNING), Outcome.FAILED, measured=3))
UNKNOWN = report(result(counting("ids", "id < 0"), Outcome.ERRORED))


@pytest.mark.parametrize("found", [GOOD, WARNED], ids=["passed", "warned"])
def test_what_the_gate_has_let_through_is_published_and_ends_the_hold(platform, found):
    platform.build("one")
    platform.hold("one")
    platform.build("two", found)

    platform.publish("two")

    assert platform.readers_see()[0] == 2
    assert platform.held.load() is None


@pytest.mark.parametrize("found", [None, BAD, UNKNOWN], ids=["no report", "failed", "errored"])
def test_nothing_else_is_published_whatever_airflow_shows(platform, found):
    platform.build("one", found)

    with pytest.raises(AirflowFailException, match="expected the quality gate to have passed in this run"):
        platform.publish("one")  # somebody marked the gate as success

    assert current_version(platform.warehouse, platform.product) is None


def test_a_passed_gate_lets_only_that_build_through(platform):
    platform.build("one", GOOD)
    platform.build("one", found=None)  # cleared and built again; the gate died and was marked as success

    with pytest.raises(AirflowFailException, match="found a report of an earlier build"):
        platform.publish("one")

    assert current_version(platform.warehouse, platform.product) is None


def test_a_broken_note_of_what_is_held_does_not_outlast_the_next_publication(platform):
    platform.build("one", GOOD)
    platform.s3.put_object(Bucket=BUCKET, Key=platform.held.key, Body=b"{")

    platform.publish("one")

    assert platform.held.load() is None


def test_the_question_shows_what_failed_and_what_each_answer_does(platform):
    platform.build("one")
    platform.hold("one")

    found = platform.find()

    assert found["failed"] == ["sales/rpt_sales/ids"]
    for told in (found["version"], "run `one`", "Readers have no version yet", "score 50.00", PUBLISH, KEEP):
        assert told in found["question"]
    json.dumps(found)  # an XCom


def test_there_is_nothing_to_decide_about_when_readers_have_something_newer(platform):
    platform.build("one")
    platform.hold("one")
    platform.build("two", GOOD)
    publish(platform.warehouse, platform.product, Publication.now("two", "", 100.0))

    with pytest.raises(AirflowSkipException, match="is not newer and was removed"):
        platform.find()

    assert platform.held.load() is None
    with pytest.raises(AirflowSkipException, match="no version is held"):
        platform.find()


def test_a_person_with_a_reason_publishes_it_and_everybody_can_see_who_and_why(platform):
    platform.build("one")
    platform.hold("one")
    version = platform.find()["version"]

    done = platform.decide(PUBLISH)

    assert platform.readers_see() == (1, "mia", REASON, "one", 50.0)
    assert (done["version"], done["run_id"]) == (version, "one")
    told = platform.outlet_events[FINANCE_PRODUCTS].extra
    assert (told["version"], told["released_by"], told["release_reason"]) == (version, "mia", REASON)
    [decision] = platform.decisions()
    assert (decision["by"], decision["choice"], decision["built_by"]) == ("mia", PUBLISH, "one")
    assert decision["failed"] == ["sales/rpt_sales/ids"]
    assert platform.held.load() is None


def test_a_release_that_died_before_its_end_is_finished_by_the_retry(platform):
    platform.build("one")
    platform.hold("one")
    platform.find()
    held = platform.held.load()
    platform.decide(PUBLISH)
    platform.held.save(held)  # as if it had died before it forgot the held version

    platform.release()
    platform.release()

    assert platform.readers_see()[0] == 1
    assert platform.held.load() is None
    assert len(platform.decisions()) == 1


@pytest.mark.parametrize(
    ("user", "reason", "found"),
    [
        (None, REASON, "found nobody"),
        (USER, "", "found mia and ''"),
        (USER, "   because   ", "found mia and 'because'"),
    ],
)
def test_without_a_person_or_a_reason_nothing_is_published(platform, user, reason, found):
    platform.build("one")
    platform.hold("one")
    platform.find()

    with pytest.raises(
        AirflowFailException, match=f"expected a person and a reason.*{found}.*Clear ask to be asked again"
    ):
        platform.decide(PUBLISH, user, reason)

    assert current_version(platform.warehouse, platform.product) is None
    assert platform.decisions() == []


def test_a_task_that_was_marked_as_success_releases_nothing(platform):
    platform.build("one")
    platform.hold("one")
    platform.find()
    platform.results["ask"] = None
    release = ReleaseHeldOperator(task_id="release", product=platform.product, find_task_id="find", ask_task_id="ask")

    with pytest.raises(AirflowFailException, match="expected the result of find and an answer in ask, found none"):
        release.execute(platform.context("release"))

    assert current_version(platform.warehouse, platform.product) is None


def test_another_answer_in_the_same_run_does_not_wipe_out_the_first(platform):
    platform.build("one")
    platform.hold("one")
    platform.find()
    with pytest.raises(AirflowSkipException):
        platform.decide(KEEP)

    platform.decide(PUBLISH)  # ask_person was cleared

    assert sorted(decision["choice"] for decision in platform.decisions()) == sorted([KEEP, PUBLISH])


def test_to_keep_it_needs_no_reason_is_recorded_and_lets_the_next_build_replace_it(platform):
    platform.build("one")
    platform.hold("one")
    platform.find()

    with pytest.raises(AirflowSkipException, match="nobody decided to keep"):
        platform.decide(KEEP, None, "")  # the time-out

    assert current_version(platform.warehouse, platform.product) is None
    assert [decision["by"] for decision in platform.decisions()] == ["nobody"]
    platform.build("two")
    assert platform.hold("two")["of_run"] == "two"


def test_an_answer_is_for_the_version_that_was_asked_about_and_no_other(platform):
    platform.build("one")
    platform.hold("one")
    platform.find()
    platform.held.save(replace(platform.held.load(), version="v20990101000000000000", run_id="other"))

    with pytest.raises(
        AirflowFailException, match=r"of run other, which replaced it; nothing was published. Clear find"
    ):
        platform.decide(PUBLISH)

    assert current_version(platform.warehouse, platform.product) is None


def test_the_question_waits_without_a_worker_and_silence_keeps_it_held():
    ask = AskPersonOperator(
        task_id="ask", find_task_id="find", answer_within=timedelta(hours=1), execution_timeout=timedelta(hours=9)
    )

    assert ask.execution_timeout is None  # it would be taken for the limit of the answer
    assert ask.response_timeout == timedelta(hours=1)
    assert (ask.options, ask.defaults) == ([PUBLISH, KEEP], [KEEP])
