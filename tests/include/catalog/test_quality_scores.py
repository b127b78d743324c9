"""Scores and assets in the catalog stand-in: what arrives, once, whatever the catalog does meanwhile."""

import dataclasses
import json
import logging
from datetime import timedelta

import pytest

from include.catalog.assets import AssetCatalog, open_asset_catalog
from include.catalog.quality_scores import PostedScore, ScoresNotPublished, product_scores, publish_quality
from include.local.catalog.trial import trial_catalog
from include.quality.report import Outcome
from tests.include.catalog.published import ARN, PRODUCTS, RELATIONS, SCANNED_AT, gate, identify, passed


@pytest.fixture(scope="module")
def served():
    with trial_catalog() as catalog:
        yield catalog


@pytest.fixture(scope="module")
def client(served):
    return served.client(read_timeout=0.5)


class Bench:
    """The catalog and the waits for it."""

    def __init__(self, served, client):
        self.served, self.client, self.waits = served, client, []

    def catalog(self, project="local0platform"):
        waiting = {"pause": self.waits.append, "jitter": lambda: 1.0}
        return AssetCatalog(self.client, self.served.domain_id, project, **waiting)

    def publish(self, report=None, *, project="local0platform", products=PRODUCTS):
        return publish_quality(self.catalog(project), report or gate(), products, identify)

    def failure(self, report=None, **options):
        with pytest.raises(ScoresNotPublished) as caught:
            self.publish(report, **options)
        return caught.value.publication

    def assets(self):
        """By relation."""
        arguments = {"domainIdentifier": self.served.domain_id, "searchScope": "ASSET"}
        items = [item["assetItem"] for item in self.client.search(**arguments)["items"]]
        return {
            item["name"]: self.client.get_asset(domainIdentifier=self.served.domain_id, identifier=item["identifier"])
            for item in items
        }

    def points(self, asset):
        return self.client.list_time_series_data_points(
            domainIdentifier=self.served.domain_id,
            entityType="ASSET",
            entityIdentifier=asset["id"],
            formName=f"soda_{self.product_of(asset['name'])}",
        )["items"]

    @staticmethod
    def product_of(relation):
        return next(p.name for p in PRODUCTS for r in p.relations if r.name == relation)


@pytest.fixture
def bench(served, client):
    served.reset()
    return Bench(served, client)


def form_of(asset, name):
    return json.loads(next(form["content"] for form in asset["formsOutput"] if form["formName"] == name))


def test_every_relation_gets_an_asset_and_its_score(bench):
    published = bench.publish()
    assets = bench.assets()
    assert sorted(assets) == RELATIONS
    assert [score.relation for score in published.posted] == RELATIONS
    assert (published.unlinked, published.failed) == ([], {})
    for score in published.posted:
        asset = assets[score.relation]
        assert score.asset_id == asset["id"]
        (point,) = bench.points(asset)
        assert json.loads(point["contentSummary"]) == {"passingPercentage": 100.0, "evaluationsCount": 1}
        assert point["timestamp"] == SCANNED_AT.replace(microsecond=0), "botocore sends whole seconds"


def test_an_asset_is_what_its_contract_says(bench):
    bench.publish()
    product = PRODUCTS[-1]
    (relation,) = product.relations
    asset = bench.assets()[relation.name]
    assert asset["typeIdentifier"] == "amazon.datazone.RedshiftViewAssetType"
    assert (asset["externalIdentifier"], asset["description"]) == (ARN + relation.name, relation.description)
    assert form_of(asset, "AssetCommonDetailsForm")["customProperties"]["owner"] == "Finance data"
    columns = form_of(asset, "ColumnBusinessMetadataForm")["columnsBusinessMetadata"]
    assert columns[-1]["description"] == relation.columns[-1].description


def test_an_asset_is_linked_with_the_lineage_of_its_relation(bench):
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-03-01T12:00:00Z",
        "run": {"runId": "r"},
        "job": {"namespace": "jobs", "name": "job"},
        "outputs": [dict(zip(("namespace", "name"), identify(RELATIONS[0]).split("/", 1), strict=True))],
    }
    bench.client.post_lineage_event(domainIdentifier=bench.served.domain_id, event=json.dumps(event))
    published = bench.publish()
    node = bench.client.get_lineage_node(domainIdentifier=bench.served.domain_id, identifier=identify(RELATIONS[0]))
    assert [one["id"] for one in node["downstreamNodes"]] == [published.posted[0].asset_id]


def test_publishing_again_writes_nothing(bench):
    first = bench.publish()
    done = len(bench.served.done)
    assert bench.publish() == first
    again = {operation for operation, _ in bench.served.done[done:]}
    assert again == {"Search", "GetAsset", "PostTimeSeriesDataPoints"}
    assert {(asset["revision"], len(bench.points(asset))) for asset in bench.assets().values()} == {("1", 1)}


def test_the_next_run_adds_a_score(bench):
    bench.publish()
    worse = tuple(passed(relation, outcome=Outcome.FAILED) for relation in RELATIONS)
    bench.publish(gate(*worse, scanned_at=SCANNED_AT + timedelta(hours=1)))
    points = bench.points(bench.assets()[RELATIONS[-1]])
    assert [json.loads(point["contentSummary"])["passingPercentage"] for point in points] == [0.0, 100.0]


def test_a_run_whose_score_another_version_wrote_keeps_it(bench):
    bench.publish()
    other = tuple(passed(relation, outcome=Outcome.FAILED) for relation in RELATIONS)
    assert len(bench.publish(gate(*other)).posted) == len(RELATIONS)
    assert {len(bench.points(asset)) for asset in bench.assets().values()} == {1}


def test_a_new_version_of_a_contract_revises_its_asset_only(bench):
    bench.publish()
    newer = (dataclasses.replace(PRODUCTS[0], version="2.0.0"), *PRODUCTS[1:])
    for _ in range(2):
        bench.publish(products=newer)
    (changed,) = PRODUCTS[0].relations
    revisions = {name: asset["revision"] for name, asset in bench.assets().items()}
    assert revisions.pop(changed.name) == "2"
    assert set(revisions.values()) == {"1"}
    asset = bench.assets()[changed.name]
    assert form_of(asset, "AssetCommonDetailsForm")["customProperties"]["contractVersion"] == "2.0.0"


def test_what_people_write_in_the_catalog_survives_a_revision(bench):
    bench.publish()
    asset = bench.assets()[RELATIONS[0]]
    forms = [
        {"formName": form["formName"], "content": form["content"]}
        for form in asset["formsOutput"]
        if form["formName"] != "AssetCommonDetailsForm"
    ]
    details = form_of(asset, "AssetCommonDetailsForm") | {"readMe": "Ask us."}
    forms.append({"formName": "AssetCommonDetailsForm", "content": json.dumps(details)})
    bench.client.create_asset_revision(
        domainIdentifier=bench.served.domain_id,
        identifier=asset["id"],
        name="Our best",
        description="another",
        glossaryTerms=["term"],
        formsInput=forms,
    )
    bench.publish()
    revised = bench.client.get_asset(domainIdentifier=bench.served.domain_id, identifier=asset["id"])
    assert (revised["revision"], revised["name"], revised["glossaryTerms"]) == ("3", "Our best", ["term"])
    assert revised["description"] == asset["description"], "which is the contract's to say"
    assert form_of(revised, "AssetCommonDetailsForm")["readMe"] == "Ask us."


def import_asset(bench, relation):
    """An asset as a data source imports it: known by its source identifier."""
    content = {
        "viewName": relation,
        "databaseName": "dev",
        "schemaName": "finance",
        "storageType": "SERVERLESS",
        "redshiftStorage": {"redshiftServerlessSource": {"workgroupName": "zero-etl-destination"}},
    }
    details = {"sourceIdentifier": identify(relation)}
    return bench.client.create_asset(
        domainIdentifier=bench.served.domain_id,
        name=f"{relation} imported",
        typeIdentifier="amazon.datazone.RedshiftViewAssetType",
        owningProjectIdentifier=bench.served.project_id,
        formsInput=[
            {"formName": "RedshiftViewForm", "content": json.dumps(content)},
            {"formName": "AssetCommonDetailsForm", "content": json.dumps(details)},
        ],
    )["id"]


def test_without_a_project_nothing_is_created_and_what_has_no_asset_is_named(bench, caplog):
    asset = import_asset(bench, RELATIONS[-1])
    with caplog.at_level(logging.WARNING):
        published = bench.publish(project="")
    assert published.posted == [PostedScore(RELATIONS[-1], asset, 100.0)]
    assert published.unlinked == RELATIONS[:-1]
    assert f"no asset of {', '.join(RELATIONS[:-1])}" in caplog.text
    assert "data_platform.catalog_project_id" in caplog.text
    assert len(bench.assets()) == 1
    assert bench.served.asked("CreateAssetRevision") == 0


def test_an_imported_asset_is_found_and_described_not_doubled(bench):
    asset = import_asset(bench, RELATIONS[0])
    published = bench.publish()
    assert published.posted[0].asset_id == asset
    assert len(bench.assets()) == len(RELATIONS)


def test_another_projects_asset_gets_the_score_and_is_left_alone(bench):
    asset = import_asset(bench, RELATIONS[0])
    report = gate(passed(RELATIONS[0]))
    assert bench.publish(report, project="somebody0else").posted[0].asset_id == asset
    assert bench.assets()[f"{RELATIONS[0]} imported"]["revision"] == "1"


def test_an_asset_is_found_on_the_last_page_of_a_search(bench):
    for number in range(101):
        import_asset(bench, f"{RELATIONS[0]}_{number:03}")
    asset = import_asset(bench, RELATIONS[0])
    assert bench.catalog().find(identify(RELATIONS[0])).asset_id == asset
    assert bench.catalog().find(identify(RELATIONS[0][:-1])) is None, "a part of a name is not the name"


def test_of_two_assets_one_is_taken_and_both_are_told(bench, caplog):
    assets = sorted(import_asset(bench, RELATIONS[0]) for _ in range(2))
    with caplog.at_level(logging.WARNING):
        assert bench.catalog().find(identify(RELATIONS[0])).asset_id == assets[0]
    assert all(asset in caplog.text for asset in assets)


def test_a_relation_that_no_contract_promises_gets_its_score_if_it_has_an_asset(bench):
    asset = import_asset(bench, "rpt_old")
    report = gate(passed("rpt_old", product="old"), passed("rpt_older", product="old"))
    published = bench.publish(report)
    assert published.posted == [PostedScore("rpt_old", asset, 100.0)]
    assert published.unlinked == ["rpt_older"]


def test_a_relation_that_is_not_redshifts_is_unlinked(bench):
    published = publish_quality(bench.catalog(), gate(), PRODUCTS, lambda relation: f"duckdb://work.duckdb/{relation}")
    assert published.unlinked == RELATIONS
    assert bench.assets() == {}


def test_a_products_score_is_of_all_its_checks(bench):
    first, second = RELATIONS[:2]
    report = gate(
        passed(first, 1, product="p"),
        passed(first, 2, Outcome.ERRORED, product="p"),
        passed(second, 3, Outcome.FAILED, product="p"),
        passed(second, 4, product="q"),
    )
    assert product_scores(report) == {"p": 33.33, "q": 100.0}
    assert bench.publish(report).summary() == {
        "posted": {first: 50.0, second: 50.0},
        "unlinked": [],
        "failed": {},
        "products": {"p": 33.33, "q": 100.0},
    }


@pytest.mark.parametrize("operation", ["Search", "CreateAsset", "GetAssetType", "PostTimeSeriesDataPoints"])
@pytest.mark.parametrize(
    "fault", [{"status": 429, "code": "ThrottlingException"}, {"status": 500}, {"drop": "request"}]
)
def test_a_catalog_that_is_busy_for_a_while_is_waited_for(bench, operation, fault):
    bench.served.fault(operation, times=3, **fault)
    assert len(bench.publish().posted) == len(RELATIONS)
    assert bench.waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("operation", ["CreateAsset", "PostTimeSeriesDataPoints"])
def test_an_answer_that_is_lost_doubles_nothing(bench, operation):
    bench.served.fault(operation, drop="answer", times=2)
    bench.publish()
    assert sorted(bench.assets()) == RELATIONS
    assert {len(bench.points(asset)) for asset in bench.assets().values()} == {1}


def test_a_slow_catalog_is_asked_again(bench):
    bench.served.fault("PostTimeSeriesDataPoints", delay_seconds=30, times=1)
    assert len(bench.publish(gate(passed(RELATIONS[0]))).posted) == 1


@pytest.mark.parametrize(
    ("fault", "told", "calls"),
    [
        ({"status": 500}, "InternalServerException", 5),
        ({"status": 429, "code": "ThrottlingException"}, "ThrottlingException", 5),
        ({"drop": "request"}, "Connection was closed", 5),
        ({"status": 403, "code": "AccessDeniedException"}, "AccessDeniedException", 1),
    ],
)
def test_a_catalog_that_stays_away_fails_every_relation_and_is_waited_for_once(bench, fault, told, calls):
    bench.served.fault("*", **fault)
    publication = bench.failure()
    assert sorted(publication.failed) == RELATIONS
    assert all(told in reason for reason in publication.failed.values())
    assert bench.served.asked("Search") == calls + len(RELATIONS) - 1
    bench.served.clear()
    assert len(bench.publish().posted) == len(RELATIONS)
    assert {len(bench.points(asset)) for asset in bench.assets().values()} == {1}


def test_one_relations_failure_does_not_stop_the_others_and_is_told(bench):
    bench.served.fault("PostTimeSeriesDataPoints", status=400, code="ValidationException", after=1, times=1)
    with pytest.raises(
        ScoresNotPublished, match=rf"scores posted and 1 relations at fault: {RELATIONS[1]}: .*Validation"
    ):
        bench.publish()
    assert len(bench.publish().posted) == len(RELATIONS)


def test_who_may_not_create_assets_still_scores_those_that_are_there(bench):
    asset = import_asset(bench, RELATIONS[-1])
    bench.served.fault("CreateAsset", status=403, code="AccessDeniedException")
    publication = bench.failure()
    assert publication.posted == [PostedScore(RELATIONS[-1], asset, 100.0)]
    assert sorted(publication.failed) == RELATIONS[:-1]


def test_a_revision_that_is_refused_does_not_stop_the_score(bench):
    asset = import_asset(bench, RELATIONS[0])
    bench.served.fault("CreateAssetRevision", status=403, code="AccessDeniedException")
    publication = bench.failure(gate(passed(RELATIONS[0])))
    assert publication.posted == [PostedScore(RELATIONS[0], asset, 100.0)]
    assert "AccessDenied" in publication.failed[RELATIONS[0]]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"formName": "f" * 129}, "at most 128"),
        ({"timestamp": "no time"}, "Invalid type for parameter|Unable to calculate"),
        ({"content": '{"evaluations": []}'}, "passingPercentage"),
        ({"content": " " * 500_001}, "at most 500000"),
        ({"colour": "red"}, "Unknown parameter"),
    ],
)
def test_a_form_that_the_model_does_not_allow_fails_its_relation_at_once(bench, monkeypatch, wrong, told):
    from include.catalog import quality_scores

    right = quality_scores.quality_form
    monkeypatch.setattr(
        quality_scores,
        "quality_form",
        lambda report, relation: right(report, relation) | (wrong if relation == RELATIONS[0] else {}),
    )
    with pytest.raises(ScoresNotPublished, match=told) as caught:
        bench.publish()
    assert set(caught.value.publication.failed) == {RELATIONS[0]}
    assert len(caught.value.publication.posted) == len(RELATIONS) - 1
    assert bench.waits == [], "waiting mends nothing"


def test_an_asset_that_somebody_else_creates_meanwhile_is_taken(bench):
    catalog, (product, *_) = bench.catalog(), PRODUCTS
    (relation,) = product.relations
    theirs = bench.catalog().create(identify(relation.name), dataclasses.replace(product, version="0.9.0"), relation)
    assert catalog.create(identify(relation.name), product, relation) == theirs


def test_an_asset_that_search_does_not_show_yet_fails_its_relation_until_it_does(bench, monkeypatch):
    bench.catalog().create(identify(RELATIONS[0]), PRODUCTS[1], PRODUCTS[1].relations[0])
    report = gate(passed(RELATIONS[0]))
    monkeypatch.setattr(AssetCatalog, "find", lambda *_: None)
    with pytest.raises(ScoresNotPublished, match="is there, but not to be found yet"):
        bench.publish(report)
    monkeypatch.undo()
    assert len(bench.publish(report).posted) == 1


def test_the_catalog_is_opened_through_the_aws_connection(bench, monkeypatch):
    aws = {"conn_type": "aws", "extra": {"region_name": "us-east-1", "endpoint_url": bench.served.url}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    catalog = open_asset_catalog(bench.served.domain_id, bench.served.project_id)
    assert len(publish_quality(catalog, gate(), PRODUCTS, identify).posted) == len(RELATIONS)
