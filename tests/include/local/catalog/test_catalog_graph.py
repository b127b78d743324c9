"""The lineage graph: nodes, edges, versions, assets and columns, through boto3's client."""

import itertools
import json
from datetime import UTC, datetime

import pytest

from include.local.catalog.run_events import source_identifier
from include.local.catalog.walk import ColumnAt, Walker
from tests.include.local.catalog.conftest import run_event


@pytest.fixture
def chain(post):
    """source → staged → mart → report, each by a job of its own."""
    names = ["source", "staged", "mart", "report"]
    for number, (before, after) in enumerate(itertools.pairwise(names)):
        columns = {"total": [(before, "total" if number else "pricepaid")]}
        post(job=f"make_{after}", inputs=[before], outputs=[(after, columns)], run_id=f"run-{number}")


def names(client, references):
    return sorted(client.get_lineage_node(identifier=one["id"])["sourceIdentifier"] for one in references)


def test_a_run_is_between_its_inputs_and_its_outputs(client, post):
    post(inputs=["a", "b"], outputs=["c", "d"], run_id="r")
    node = client.get_lineage_node(identifier="jobs.job/r")
    assert node["typeName"] == "amazon.datazone.JobRunLineageNodeType"
    assert names(client, node["upstreamNodes"]) == ["ns/a", "ns/b"]
    assert names(client, node["downstreamNodes"]) == ["ns/c", "ns/d"]
    output = client.get_lineage_node(identifier="ns/d")
    assert output["typeName"] == "amazon.datazone.DatasetLineageNodeType"
    assert names(client, output["upstreamNodes"]) == ["jobs.job/r"]
    assert output["downstreamNodes"] == []


def test_a_node_is_the_same_by_its_id(client, post):
    post(outputs=["a"])
    by_source = client.get_lineage_node(identifier="ns/a")
    assert client.get_lineage_node(identifier=by_source["id"]) == by_source


def test_an_arn_with_slashes_is_one_identifier(client, post):
    event = run_event()
    arn = "arn:aws:redshift-serverless:us-east-1:123456789012:view"
    event["outputs"] = [{"namespace": arn, "name": "wg/dev/finance/rpt top"}]
    post(event)
    identifier = f"{arn}/wg/dev/finance/rpt top"
    assert client.get_lineage_node(identifier=identifier)["sourceIdentifier"] == identifier


@pytest.mark.parametrize(
    ("namespace", "name", "identifier"),
    [
        ("ns", "a.b", "ns/a.b"),
        (
            "redshift://wg.123456789012.us-east-1.redshift-serverless.amazonaws.com:5439",
            "dev.public.t",
            "arn:aws:redshift-serverless:us-east-1:123456789012:table/wg/dev/public/t",
        ),
        ("redshift://c.eu-west-1:5439", "dev.public.t", "arn:aws:redshift:eu-west-1:123456789012:table/c/dev/public/t"),
        ("redshift://warehouse.example:5439", "dev.t", "redshift://warehouse.example:5439/dev.t"),
    ],
)
def test_a_dataset_is_known_by_the_documented_rule(namespace, name, identifier):
    assert source_identifier(namespace, name) == identifier


def test_the_whole_graph_can_be_walked_from_its_end(client, chain, catalog):
    assert Walker(client, catalog.domain_id).upstream("ns/report") == {
        "ns/report": {"ns/mart"},
        "ns/mart": {"ns/staged"},
        "ns/staged": {"ns/source"},
        "ns/source": set(),
    }


def test_the_whole_graph_can_be_walked_from_its_beginning(client, chain):
    at, seen = "ns/source", []
    while True:
        near = client.get_lineage_node(identifier=at)["downstreamNodes"]
        if not near:
            break
        (at,) = client.get_lineage_node(identifier=near[0]["id"])["downstreamNodes"]
        at = client.get_lineage_node(identifier=at["id"])["sourceIdentifier"]
        seen.append(at)
    assert seen == ["ns/staged", "ns/mart", "ns/report"]


def test_a_column_is_traced_to_the_source(client, chain, catalog):
    (way,) = Walker(client, catalog.domain_id).trace("ns/report", "total")
    assert way[0] == ColumnAt("ns/report", "total")
    assert way[-1] == ColumnAt("ns/source", "pricepaid")
    assert len(way) == 4


def test_a_column_of_two_columns_has_two_ways_and_one_of_none_has_none(client, post, catalog):
    columns = {"sum": [("a", "x"), ("b", "y"), ("a", "x")], "self": [("c", "self")]}
    post(inputs=["a", "b"], outputs=[("c", columns)])
    walker = Walker(client, catalog.domain_id)
    assert [way[-1] for way in walker.trace("ns/c", "sum")] == [ColumnAt("ns/a", "x"), ColumnAt("ns/b", "y")]
    assert walker.trace("ns/c", "self") == [(ColumnAt("ns/c", "self"),)], "a column of itself ends there"
    assert walker.trace("ns/c", "unknown") == [(ColumnAt("ns/c", "unknown"),)]


def test_the_facet_is_kept_as_it_came(client, post):
    event = run_event(outputs=[("c", {"sum": [("a", "x")]})])
    facet = event["outputs"][0]["facets"]["columnLineage"]
    facet["fields"]["sum"]["inputFields"][0]["transformations"] = [{"type": "DIRECT", "subtype": "AGGREGATION"}]
    facet["dataset"] = [{"namespace": "ns", "name": "b", "field": "filtered"}]
    post(event)
    (form,) = client.get_lineage_node(identifier="ns/c")["formsOutput"]
    content = json.loads(form["content"])
    assert form["formName"] == "columnLineage"
    assert content["fields"]["sum"]["inputFields"][0]["transformations"][0]["subtype"] == "AGGREGATION"
    assert content["dataset"][0]["sourceIdentifier"] == "ns/b"


def test_a_run_that_is_told_in_several_events_is_one_run(client, post):
    post(state="START", inputs=["a"], run_id="r", time="2026-01-31T08:00:00Z")
    post(state="COMPLETE", outputs=["b"], run_id="r", time="2026-01-31T08:01:00Z")
    node = client.get_lineage_node(identifier="jobs.job/r")
    assert (names(client, node["upstreamNodes"]), names(client, node["downstreamNodes"])) == (["ns/a"], ["ns/b"])
    assert json.loads(node["formsOutput"][0]["content"])["eventType"] == "COMPLETE"


def test_of_a_jobs_runs_the_last_is_a_datasets_neighbour(client, post):
    for number in (1, 3, 2):
        post(outputs=["a"], run_id=f"r{number}", time=f"2026-01-31T0{number}:00:00Z")
    post(job="other", outputs=["a"], run_id="o", time="2026-01-30T00:00:00Z")
    node = client.get_lineage_node(identifier="ns/a")
    assert names(client, node["upstreamNodes"]) == ["jobs.job/r3", "jobs.other/o"]
    assert client.get_lineage_node(identifier="jobs.job")["sourceIdentifier"] == "jobs.job/r3"


def test_a_node_as_it_was(client, post):
    for number, column in ((1, "old"), (3, "new")):
        columns = {"c": [("a", column)]}
        post(outputs=[("b", columns)], run_id=f"r{number}", time=f"2026-01-31T0{number}:00:00Z")
    was = client.get_lineage_node(identifier="ns/b", eventTimestamp=datetime(2026, 1, 31, 2, tzinfo=UTC))
    assert was["eventTimestamp"] == datetime(2026, 1, 31, 1, tzinfo=UTC)
    assert names(client, was["upstreamNodes"]) == ["jobs.job/r1"]
    assert '"old"' in was["formsOutput"][0]["content"]
    assert '"new"' in client.get_lineage_node(identifier="ns/b")["formsOutput"][0]["content"]
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no version of ns/b"):
        client.get_lineage_node(identifier="ns/b", eventTimestamp=datetime(2026, 1, 30, tzinfo=UTC))


def test_no_more_neighbours_than_the_service_tells(client, post):
    for number in range(101):
        post(job=f"job_{number}", inputs=["a"], time=f"2026-01-31T08:00:00.{number:06}Z")
    near = client.get_lineage_node(identifier="ns/a")["downstreamNodes"]
    assert len(near) == 100
    told = {client.get_lineage_node(identifier=one["id"])["name"] for one in near}
    assert "job_100" in told
    assert "job_0" not in told, "the newest are told"


def test_the_versions_of_a_node_are_listed_page_by_page(client, post):
    for number in range(5):
        post(inputs=["a"], outputs=["b"], run_id=f"r{number}", time=f"2026-01-31T0{number}:00:00Z")
    found, token = [], {}
    while True:
        page = client.list_lineage_node_history(identifier="ns/b", maxResults=2, sortOrder="ASCENDING", **token)
        found += [node["eventTimestamp"].astimezone(UTC).hour for node in page["nodes"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == [0, 1, 2, 3, 4]
    late = client.list_lineage_node_history(identifier="ns/b", eventTimestampGTE=datetime(2026, 1, 31, 4, tzinfo=UTC))
    assert len(late["nodes"]) == 1
    runs = client.list_lineage_node_history(identifier="ns/b", direction="UPSTREAM")
    assert [node["sourceIdentifier"] for node in runs["nodes"]] == ["jobs.job/r4"]
    assert len(client.list_lineage_node_history(identifier="ns/a")["nodes"]) == 1, "being read changes nothing"


@pytest.mark.parametrize("operation", ["get_lineage_node", "list_lineage_node_history"])
def test_a_node_that_is_not_there(client, operation):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no lineage node ns/none"):
        getattr(client, operation)(identifier="ns/none")


def test_an_identifier_that_is_too_long_is_refused(client):
    with pytest.raises(client.exceptions.ValidationException, match="at most 2086"):
        client.get_lineage_node(identifier="a" * 2087)


def test_an_asset_is_linked_with_the_dataset_that_has_its_source_identifier(client, post, view):
    post(outputs=["a"])
    asset = view(source="ns/a", external="x")["id"]
    stranger = view(source="ns/b", external="ns/a")["id"]
    node = client.get_lineage_node(identifier="ns/a")
    assert [one["id"] for one in node["downstreamNodes"]] == [asset]
    told = client.get_lineage_node(identifier=asset)
    assert [one["id"] for one in told["upstreamNodes"]] == [node["id"]]
    assert told["sourceIdentifier"] == "ns/a"
    assert client.get_lineage_node(identifier=stranger)["upstreamNodes"] == []
