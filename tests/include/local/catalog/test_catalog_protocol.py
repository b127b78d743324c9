"""The protocol: what botocore's model says is what the stand-in takes and gives."""

import json
import logging
import re
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from include.local.catalog.identity import DOMAIN_ID, PROJECT_ID
from include.local.catalog.protocol import InvalidAnswerError, find_operation, service_model, violations, write_answer


def raw(catalog, path, body, method="POST"):
    """What is answered to a request that boto3 would not send."""
    request = urllib.request.Request(f"{catalog.url}/v2/domains/{DOMAIN_ID}{path}", data=body, method=method)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    return caught.value.code, caught.value.headers["x-amzn-ErrorType"], json.load(caught.value)["message"]


def test_the_domain_and_its_project_are_there_from_the_start(client, served_client):
    assert served_client.get_domain(identifier=DOMAIN_ID)["status"] == "AVAILABLE"
    assert client.get_project(identifier=PROJECT_ID)["id"] == PROJECT_ID
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no project other"):
        client.get_project(identifier="other")


def test_an_operation_that_the_stand_in_does_not_have_is_named(served_client, catalog):
    with pytest.raises(
        ClientError, match=r"NotImplementedException.*the stand-in has no ListDomains; it has CreateAsset,"
    ) as caught:
        served_client.list_domains()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_what_is_no_operation_at_all_is_not_found(catalog):
    assert raw(catalog, "/nothing/here", b"")[:2] == (404, "UnknownOperationException")
    assert raw(catalog, "/lineage/events", None, "DELETE")[:2] == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "expected JSON"),
        (b"[]", "expected an object, found list"),
        (b'{"searchScope": 7}', "searchScope: expected a string, found '7'"),
        (b'{"searchScope": "ASSET", "maxResults": "many"}', "maxResults: expected a integer"),
        (b'{"searchScope": "ASSET", "maxResults": true}', "maxResults: expected a integer"),
        (b'{"searchScope": "ASSET", "additionalAttributes": "FORMS"}', "additionalAttributes: expected a list"),
        (b'{"searchScope": "ASSET", "filters": []}', "filters: expected a structure"),
    ],
)
def test_a_body_of_another_type_is_refused(catalog, body, message):
    status, code, said = raw(catalog, "/search", body)
    assert (status, code) == (400, "SerializationException")
    assert message in said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "searchScope: expected a value, found none"),
        (b'{"searchScope": "ASSET", "filters": {}}', "filters: expected exactly one of filter, and, or, found none"),
        (
            b'{"searchScope": "ASSET", "filters": {"and": [], "filter": {"attribute": "a"}}}',
            "expected exactly one of filter, and, or, found filter, and",
        ),
    ],
)
def test_a_body_that_the_model_does_not_allow_is_refused(catalog, body, message):
    status, code, said = raw(catalog, "/search", body)
    assert (status, code) == (400, "ValidationException")
    assert message in said


def test_every_problem_of_a_request_is_told(client):
    with pytest.raises(client.exceptions.ValidationException, match="2 validation errors") as caught:
        client.search(searchScope="NONE", maxResults=51)
    assert "searchScope" in str(caught.value)
    assert "maxResults" in str(caught.value)


def test_an_answer_that_the_service_could_not_give_is_a_mistake_of_the_stand_in(client, catalog, monkeypatch, caplog):
    monkeypatch.setitem(catalog.service._operations, "GetAsset", lambda said: {"id": "not an id!", "formsOutput": []})
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(client.exceptions.InternalServerException, match="a mistake of the stand-in"),
    ):
        client.get_asset(identifier="a")
    assert "GetAsset: " in caplog.text
    assert "id: expected to match" in caplog.text
    assert "name: expected a value, found none" in caplog.text


def test_an_answer_with_a_member_that_the_model_does_not_have_is_refused():
    with pytest.raises(InvalidAnswerError, match="the model has no colour"):
        write_answer(service_model().operation_model("PostLineageEvent"), {"colour": "red"})


def test_enum_values_and_lists_of_answers_are_held_to_the_model():
    shape = service_model().operation_model("GetLineageNode").output_shape
    node = {"domainId": DOMAIN_ID, "id": "a", "typeName": "t"}
    assert list(violations(shape, node | {"upstreamNodes": [{"id": "b"}] * 100})) == []
    assert list(violations(shape, node | {"upstreamNodes": [{"id": "b"}] * 101})) == [
        "upstreamNodes: number of members: expected at most 100, found 101"
    ]
    event = service_model().operation_model("GetLineageEvent").output_shape
    assert "expected one of REQUESTED" in next(violations(event, {"processingStatus": "DONE"}))


def test_every_operation_of_the_model_has_its_own_route():
    for name in service_model().operation_names:
        operation = service_model().operation_model(name)
        path = re.sub(r"\{\w+\+?\}", "x", operation.http["requestUri"])
        assert find_operation(operation.http["method"], path)[0].name == name


def test_every_pattern_of_the_model_is_understood(catalog):
    """Those of operations that the stand-in has: a pattern that Python reads otherwise would refuse what Amazon takes."""
    seen, patterns = set(), set()

    def look(shape):
        if shape is None or shape.name in seen:
            return
        seen.add(shape.name)
        patterns.add(shape.metadata.get("pattern"))
        for part in (
            *getattr(shape, "members", {}).values(),
            *(getattr(shape, key, None) for key in ("member", "key", "value")),
        ):
            look(part)

    for name in catalog.service._operations:
        look(service_model().operation_model(name).input_shape)
        look(service_model().operation_model(name).output_shape)
    assert len(patterns) > 15
    for pattern in patterns - {None}:
        re.compile(pattern, re.ASCII)
