"""The catalog's limit of bytes."""

import json

import pytest

from data_platform.lineage.events import parse_event, to_bytes
from data_platform.lineage.exceptions import EventTooLarge
from data_platform.lineage.size import MAX_BYTES, STEPS, TRIMMED, fit
from tests.plugins.lineage.events import as_json, run_event


def event_of(size: int, filler: str = "x") -> dict:
    """An event of exactly ``size`` bytes, by the length of its SQL."""
    event = as_json(run_event(sql="select 1"))
    left = size - len(to_bytes(event))
    width = len(filler.encode())
    event["job"]["facets"]["sql"]["query"] += filler * (left // width) + "x" * (left % width)
    assert len(to_bytes(event)) == size
    return event


@pytest.mark.parametrize("filler", ["x", "ü", "🎟"])
def test_an_event_of_exactly_the_limit_is_sent_whole(filler):
    event = event_of(MAX_BYTES, filler)
    fitted = fit(event)
    assert len(fitted.body) == MAX_BYTES
    assert fitted.trimmed == ()
    assert json.loads(fitted.body) == event


@pytest.mark.parametrize("filler", ["x", "ü", "🎟"])
def test_one_byte_more_costs_the_sql_and_the_event_says_so(filler):
    event = event_of(MAX_BYTES + 1, filler)
    before = json.dumps(event)
    fitted = fit(event)
    sent = parse_event(fitted.body)
    assert len(fitted.body) <= MAX_BYTES
    assert fitted.trimmed == ("job: source code and SQL",)
    assert sent["run"]["facets"][TRIMMED]["trimmed"] == ["job: source code and SQL"]
    assert sent["run"]["facets"][TRIMMED]["bytes"] == MAX_BYTES + 1
    assert json.dumps(event) == before, "the spooled event is whole"


def test_what_makes_the_graph_is_never_left_out():
    event = event_of(20_000)
    names = [(dataset["namespace"], dataset["name"]) for dataset in event["inputs"] + event["outputs"]]
    everything_goes = fit(event, 1700)
    sent = json.loads(everything_goes.body)
    assert [(dataset["namespace"], dataset["name"]) for dataset in sent["inputs"] + sent["outputs"]] == names
    assert sent["run"]["facets"]["parent"] == event["run"]["facets"]["parent"]
    assert (sent["job"]["name"], sent["eventType"], sent["eventTime"]) == (
        event["job"]["name"],
        event["eventType"],
        event["eventTime"],
    )
    assert "column lineage" in everything_goes.trimmed


def test_columns_outlive_their_descriptions_and_the_descriptions_outlive_the_sql():
    order = [name for name, _ in STEPS]
    assert (
        order.index("job: source code and SQL")
        < order.index("schema: descriptions")
        < order.index("column lineage: transformations")
        < order.index("schema")
        < order.index("column lineage")
    )


def test_no_more_is_left_out_than_needed():
    event = as_json(run_event(sql="x" * 1000))
    event["run"]["facets"]["airflow"] = {"task": "y" * 5000}
    event["run"]["facets"]["debug"] = {"all": "z"}
    fitted = fit(event, len(to_bytes(event)) - 4000)
    assert fitted.trimmed == ("run: debug and environment", "run: Airflow's details")
    assert json.loads(fitted.body)["job"]["facets"]["sql"]["query"] == "x" * 1000


def test_descriptions_go_from_every_field_of_every_dataset():
    event = as_json(run_event())
    for dataset in event["inputs"] + event["outputs"]:
        dataset["facets"]["schema"] = {
            "fields": [{"name": name, "type": "int", "description": "d" * 500} for name in "abc"]
        }
    fitted = fit(event, len(to_bytes(event)) - 3000)
    assert fitted.trimmed == ("schema: descriptions",)
    assert b'"description"' not in fitted.body
    assert fitted.body.count(b'"type":"int"') == 9


def test_an_event_that_can_not_fit_is_refused_with_what_to_do():
    event = as_json(run_event())
    event["inputs"] = [{"namespace": "n" * 1000, "name": f"t{n}"} for n in range(400)]
    with pytest.raises(EventTooLarge, match="split the job"):
        fit(event)


def test_half_a_surrogate_pair_does_not_stop_an_event():
    event = as_json(run_event())
    event["job"]["facets"]["documentation"] = {"description": "cut \ud83c"}
    assert json.loads(fit(event).body)["job"]["facets"]["documentation"]["description"] == "cut ?"
