"""Time series of quality scores, through boto3's client."""

import json
from datetime import UTC, datetime, timedelta

import pytest

MOMENT = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
GOOD = {
    "evaluations": [
        {
            "types": ["Completeness"],
            "description": "no null",
            "details": {"EVALUATION_MESSAGE": "expected 0, found 0"},
            "applicableFields": ["eventid"],
            "status": "PASS",
        }
    ],
    "passingPercentage": 100.0,
    "evaluationsCount": 1,
}


def form(moment=MOMENT, content=None, **more):
    return {
        "formName": "soda_best_selling",
        "typeIdentifier": "amazon.datazone.DataQualityResultFormType",
        "timestamp": moment,
        "content": json.dumps(GOOD if content is None else content),
    } | more


@pytest.fixture
def of(view):
    return {"entityType": "ASSET", "entityIdentifier": view()["id"]}


def test_a_score_is_posted_listed_and_got(client, of):
    (posted,) = client.post_time_series_data_points(**of, forms=[form()])["forms"]
    (item,) = client.list_time_series_data_points(**of, formName="soda_best_selling")["items"]
    assert json.loads(item["contentSummary"]) == {"passingPercentage": 100.0, "evaluationsCount": 1}
    assert (item["timestamp"], item["id"], item["typeRevision"]) == (MOMENT, posted["id"], "8")
    got = client.get_time_series_data_point(**of, formName="soda_best_selling", identifier=posted["id"])
    assert json.loads(got["form"]["content"]) == GOOD


def test_the_latest_score_is_told_with_the_asset_and_its_listing(client, of):
    for hours in (1, 3, 2):
        content = GOOD | {"passingPercentage": 10.0 * hours}
        client.post_time_series_data_points(**of, forms=[form(MOMENT + timedelta(hours=hours), content)])
    asset = of["entityIdentifier"]
    (latest,) = client.get_asset(identifier=asset)["latestTimeSeriesDataPointFormsOutput"]
    assert json.loads(latest["contentSummary"])["passingPercentage"] == 30.0
    made = client.create_listing_change_set(entityIdentifier=asset, entityType="ASSET", action="PUBLISH")
    listing = {"entityType": "LISTING", "entityIdentifier": made["listingId"]}
    assert len(client.list_time_series_data_points(**listing, formName="soda_best_selling")["items"]) == 3
    (found,) = client.search(searchScope="ASSET", additionalAttributes=["TIME_SERIES_DATA_POINT_FORMS"])["items"]
    assert len(found["assetItem"]["additionalAttributes"]["latestTimeSeriesDataPointFormsOutput"]) == 1


def test_every_score_is_on_exactly_one_page_newest_first(client, of):
    for hours in range(5):
        client.post_time_series_data_points(**of, forms=[form(MOMENT + timedelta(hours=hours))])
    found, token = [], {}
    while True:
        page = client.list_time_series_data_points(**of, formName="soda_best_selling", maxResults=2, **token)
        found += [item["timestamp"].astimezone(UTC).hour for item in page["items"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == [12, 11, 10, 9, 8]
    bounds = {"startedAt": MOMENT + timedelta(hours=1), "endedAt": MOMENT + timedelta(hours=2)}
    assert len(client.list_time_series_data_points(**of, formName="soda_best_selling", **bounds)["items"]) == 2
    assert client.list_time_series_data_points(**of, formName="other")["items"] == []


def test_the_same_token_is_the_same_score(client, of):
    posts = [client.post_time_series_data_points(**of, forms=[form()], clientToken="t") for _ in range(2)]
    assert posts[0] == posts[1]
    with pytest.raises(client.exceptions.ConflictException):
        client.post_time_series_data_points(**of, forms=[form(MOMENT + timedelta(hours=1))], clientToken="t")
    assert len(client.list_time_series_data_points(**of, formName="soda_best_selling")["items"]) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (form(formName="f" * 129), "formName: length: expected at most 128"),
        (form(typeRevision="7"), "expected revision 8, found 7"),
        (form(typeIdentifier="amazon.datazone.AssetCommonDetailsFormType"), "expected a type of time series"),
        (form() | {"content": json.dumps(GOOD).ljust(500_001)}, "at most 500000, found 500001"),
        (form() | {"content": "not JSON"}, "expected JSON"),
        (form(content={"passingPercentage": 1}), "evaluations: expected a value, found none"),
        (form(content=GOOD | {"passingPercentage": "100"}), "passingPercentage: expected a number"),
        (form(content=GOOD | {"evaluationsCount": 1.5}), "evaluationsCount: expected a integer"),
        (form(content=GOOD | {"score": 1}), "expected only evaluations"),
        (form(content=GOOD | {"evaluations": {}}), "evaluations: expected a list"),
        (
            form(content=GOOD | {"evaluations": [GOOD["evaluations"][0] | {"status": "WARN"}]}),
            "status: expected one of PASS, FAIL",
        ),
        (
            form(content=GOOD | {"evaluations": [GOOD["evaluations"][0] | {"details": {"n": 1}}]}),
            "details: expected a map",
        ),
    ],
)
def test_a_score_that_the_service_would_not_take_is_refused(client, of, wrong, message):
    with pytest.raises(client.exceptions.ValidationException, match=message):
        client.post_time_series_data_points(**of, forms=[form(), wrong])
    assert client.list_time_series_data_points(**of, formName="soda_best_selling")["items"] == [], "all or nothing"


def test_a_score_needs_its_asset(client, of):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no ASSET none"):
        client.post_time_series_data_points(entityType="ASSET", entityIdentifier="none", forms=[form()])
    with pytest.raises(client.exceptions.ValidationException, match="entityType: expected one of ASSET, LISTING"):
        client.post_time_series_data_points(entityType="PRODUCT", entityIdentifier="none", forms=[form()])
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no data point none"):
        client.get_time_series_data_point(**of, formName="f", identifier="none")
