"""A mapping that says something it can't is refused, with the place in the file and what was expected there."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from include.ingestion.ocsf.language import (
    Change,
    Concat,
    Enum,
    First,
    If,
    ListOf,
    Literal,
    MappingError,
    ObjectOf,
    load_mapping,
    parse_mapping,
    parse_path,
    paths,
)
from include.ingestion.sources import load_source, source_names

EVENTS = "mapping: custom_source_events"
KIND = f"{EVENTS}.ocsf_mapping.flow"
VALUE = f"{KIND}.schema_mapping.message"

SOUND: dict[str, Any] = {
    "source_name": "firewall",
    "matched_field": "$.type",
    "timestamp": {"field": "$.at", "format": "iso"},
    "$documents": {"data": {"in": ["$.data", "$"], "having": "UtcTime"}},
    "$fragments": {"base": {"severity_id": 1}, "again": {"$include": ["once"]}, "once": {"$include": ["again"]}},
    "ocsf_mapping": {
        "flow": {"schema": "network_activity", "schema_mapping": {"$include": ["base"], "message": "$.text"}}
    },
}


def mapping(**changes: Any) -> dict[str, Any]:
    """A sound mapping with other members; one that is ``...`` is left out."""
    events = {**copy.deepcopy(SOUND), **changes}
    return {"custom_source_events": {key: value for key, value in events.items() if value is not ...}}


def kind(**changes: Any) -> dict[str, Any]:
    """The same with another entry of ``ocsf_mapping``."""
    entry = {**copy.deepcopy(SOUND["ocsf_mapping"]["flow"]), **changes}
    return mapping(ocsf_mapping={"flow": {key: value for key, value in entry.items() if value is not ...}})


def value(written: Any) -> dict[str, Any]:
    """The same with another value of ``message``."""
    return kind(schema_mapping={"message": written})


def refused(document: Any) -> str:
    with pytest.raises(MappingError) as raised:
        parse_mapping(document)
    return str(raised.value)


def test_the_sound_one_is_read():
    found = parse_mapping(mapping())
    assert found.source_name == "firewall"
    assert found.missing == ("",)
    assert (str(found.time_path), found.time_format) == ("$.at", "iso")
    assert found.kinds_by_value["flow"].root == ObjectOf(
        (("severity_id", Literal(1)), ("message", parse_path("$.text")))
    )
    assert [str(path) for path in found.documents[0].candidates] == ["$.data", "$"]


@pytest.mark.parametrize("name", source_names())
def test_a_shipped_one_is_read(name: str):
    assert load_mapping(load_source(name).mapping_file).kinds


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "mapping: expected an object, found list '[]'"),
        ({}, "mapping: expected custom_source_events, found none"),
        ({"custom_source_events": []}, "mapping.custom_source_events: expected an object, found list"),
        (mapping(source_name=...), f"{EVENTS}: expected source_name, found none"),
        (mapping(matched_field=...), f"{EVENTS}: expected matched_field, found none"),
        (mapping(matched_field=7), f"{EVENTS}.matched_field: expected a text or an object, found int '7'"),
        (mapping(matched_field="$.a..b"), f"{EVENTS}.matched_field: expected a path like $.a.b"),
        (mapping(ocsf_mapping=...), f"{EVENTS}: expected ocsf_mapping, found none"),
        (mapping(ocsf_mapping={}), f"{EVENTS}.ocsf_mapping: expected a mapping for at least one value, found none"),
        (mapping(ocsf_mapping=["flow"]), f"{EVENTS}.ocsf_mapping: expected an object, found list"),
        (mapping(**{"$fragment": {}}), f"{EVENTS}: expected only $documents, $fragments, $missing, matched_field"),
        (mapping(**{"$fragments": []}), f"{EVENTS}.$fragments: expected an object, found list"),
        (mapping(**{"$missing": "-"}), f"{EVENTS}.$missing: expected a list, found str '-'"),
        (mapping(timestamp={"format": "iso"}), f"{EVENTS}.timestamp: expected field, found none"),
        (mapping(timestamp={"field": "$.at"}), f"{EVENTS}.timestamp: expected format, found none"),
        (
            mapping(timestamp={"field": "at", "format": "iso"}),
            f"{EVENTS}.timestamp.field: expected a path like $.a.b, $.a[0] or $.a['x.y'], found 'at'",
        ),
        (mapping(**{"$documents": {"data": "$.data"}}), "expected an object, found str '$.data'"),
        (mapping(**{"$documents": {"data": {"having": "x"}}}), "expected in, found none"),
        (mapping(**{"$documents": {"data": {"in": ["$"]}}}), f"{EVENTS}.$documents.data: expected having, found none"),
        (
            mapping(**{"$documents": {"data": {"in": ["data"], "having": "x"}}}),
            f"{EVENTS}.$documents.data.in: expected a path like $.a.b",
        ),
        (value("$other.x"), f"{EVENTS}: expected a document of $documents (data), found $other.x"),
        (
            mapping(matched_field={"$first": ["$.type", "$other.x"]}),
            f"{EVENTS}: expected a document of $documents (data), found $other.x",
        ),
        (mapping(ocsf_mapping={"flow": "network_activity"}), f"{KIND}: expected an object with schema and"),
        (
            mapping(ocsf_mapping={"flow": None}),
            f"{KIND}: expected an object with schema and schema_mapping, found nothing",
        ),
        (kind(schema=...), f"{KIND}: expected schema, found none"),
        (kind(schema=4001), f"{KIND}.schema: expected a text, found int '4001'"),
        (kind(schema_mapping=...), f"{KIND}: expected schema_mapping, found none"),
        (kind(schema_mapping=["$.a"]), f"{KIND}.schema_mapping: expected an object, found list"),
        (kind(schema_mapping={"$first": ["$.a"]}), f"{KIND}.schema_mapping: expected attributes of an event"),
        (kind(notes="x"), f"{KIND}: expected only $version, note, schema, schema_mapping, found notes"),
        (kind(note=1), f"{KIND}.note: expected a text, found int '1'"),
        (kind(**{"$version": 1.1}), f"{KIND}.$version: expected a text, found float '1.1'"),
        (
            kind(schema_mapping={"$include": ["bass"]}),
            f"{KIND}.schema_mapping.$include: expected a name of an object of $fragments (again, base, once), found 'bass'",
        ),
        (
            kind(schema_mapping={"device": {"$include": ["bass"]}}),
            f"{KIND}.schema_mapping.device.$include: expected a name of an object of $fragments",
        ),
        (kind(schema_mapping={"$include": "base"}), f"{KIND}.schema_mapping.$include: expected a list, found str"),
        (kind(schema_mapping={"$include": ["again"]}), "$include: again → once → again includes itself"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(document: Any, told: str):
    assert told in refused(document)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("$.a[x]", ": expected a path like $.a.b, $.a[0] or $.a['x.y'], found '$.a[x]'"),
        ("$.a[*]", ": expected a path like"),
        ("$.a.", ": expected a path like"),
        ("$ .a", ": expected a path like"),
        ("$data", ": expected a field of the document $data, found '$data'; write $data.field"),
        (["x", "$.a["], "[1]: expected a path like"),
        ({"name": "$.a]"}, ".name: expected a path like"),
        ({"$nope": 1}, ": expected $of, $if, $first or $concat, found $nope"),
        ({"$then": "x", "$else": "y"}, ": expected $of, $if, $first or $concat, found $then, $else"),
        ({"$of": "$.a", "$patern": "x"}, ": expected only $base, $case, $default, $of, $pattern, $split, $time"),
        ({"$of": "$.a", "name": "x"}, "found name"),
        ({"$of": "a..b", "$of2": 1}, "found $of2"),
        ({"$of": "$.a["}, ".$of: expected a path like"),
        ({"$of": "$.a", "$pattern": "("}, ".$pattern: expected a regular expression, found '('"),
        ({"$of": "$.a", "$pattern": 5}, ".$pattern: expected a regular expression, found 5"),
        ({"$of": "$.a", "$pattern": "a(?=b)"}, ".$pattern: expected no look-around, back reference or possessive"),
        ({"$of": "$.a", "$pattern": "(?<!a)b"}, ".$pattern: expected no look-around"),
        ({"$of": "$.a", "$pattern": r"(a)\1"}, ".$pattern: expected no look-around"),
        ({"$of": "$.a", "$pattern": "a++"}, ".$pattern: expected no look-around"),
        ({"$of": "$.a", "$pattern": "(?P<x>a)(?P=x)"}, ".$pattern: expected no look-around"),
        ({"$of": "$.a", "$case": "title"}, ".$case: expected lower or upper, found 'title'"),
        ({"$of": "$.a", "$split": ""}, ".$split: expected a separator, found ''"),
        ({"$of": "$.a", "$split": 1}, ".$split: expected a separator, found 1"),
        ({"$of": "$.a", "$base": 8}, ".$base: expected 16, the only base, found 8"),
        ({"$of": "$.a", "$time": "iso"}, ".$time: expected a list of formats, found 'iso'"),
        ({"$of": "$.a", "$time": []}, ".$time: expected a list of formats, found []"),
        ({"$of": "$.a", "$time": [1]}, ".$time: expected a list of formats, found [1]"),
        ({"$first": []}, ".$first: expected at least one value, found none"),
        ({"$first": "$.a"}, ".$first: expected a list, found str '$.a'"),
        ({"$first": ["$.a"], "$default": "x"}, ": expected only $first, found $default"),
        ({"$first": ["$.a", {"$of": "$.b", "$base": 2}]}, ".$first[1].$base: expected 16"),
        ({"$concat": []}, ".$concat: expected at least one value, found none"),
        ({"$concat": ["$.a", "$.b]"]}, ".$concat[1]: expected a path like"),
        ({"$if": "$.a", "$then": 1}, ".$if: expected a condition, found str '$.a'"),
        ({"$if": {"$of": "$.a", "$exists": True}, "then": 1}, ": expected only $else, $if, $then, found then"),
        (
            {"$if": {"$of": "$.a"}},
            ".$if: expected $of with one of $in, $matches, $exists (or $all, $any, $not), found $of",
        ),
        ({"$if": {"$exists": True}}, ".$if: expected $of with one of"),
        ({"$if": {"$of": "$.a", "$in": ["x"], "$exists": True}}, ".$if: expected $of with one of"),
        ({"$if": {"$of": "$.a", "$in": ["x"], "$case": "lower"}}, ".$if: expected only $in, $of, found $case"),
        ({"$if": {"$of": "$.a", "$exists": "true"}}, ".$if.$exists: expected true or false, found 'true'"),
        ({"$if": {"$of": "$.a", "$matches": "["}}, ".$if.$matches: expected a regular expression, found '['"),
        ({"$if": {"$all": {}}}, ".$if.$all: expected a list, found dict"),
        ({"$if": {"$any": [{"$of": "$.a", "$exists": True}, 7]}}, ".$if.$any: expected a condition, found int '7'"),
        ({"$if": {"$all": [], "$any": []}}, ".$if: expected only $all, found $any"),
        ({"$if": {"$not": None}}, ".$if.$not: expected a condition, found nothing"),
        ({"$if": {"$not": {"$of": "$.a", "$matches": "(?!a)"}}}, ".$if.$not.$matches: expected no look-around"),
        ({"$if": {"$of": "$.a", "$exists": True}, "$then": "$.b["}, ".$then: expected a path like"),
        ({"$if": {"$of": "$.a", "$exists": True}, "$else": {"$x": 1}}, ".$else: expected $of, $if, $first or $concat"),
        ({"enum": {"evaluate": "$.a"}}, ".enum: expected values, found none"),
        ({"enum": {"evaluate": "$.a", "values": ["x"]}}, ".enum.values: expected an object, found list"),
        ({"enum": {"evaluate": "$.a[", "values": {}}}, ".enum.evaluate: expected a path like"),
        ({"enum": {"evaluate": "$.a", "values": {}, "otherwise": 1}}, ".enum: expected only evaluate, other, values"),
        ({"enum": {"evaluate": "$.a", "values": {}, "other": "$.b["}}, ".enum.other: expected a path like"),
    ],
)
def test_a_malformed_value_is_refused_with_its_place(written: Any, told: str):
    message = refused(value(written))
    assert message.startswith(VALUE)
    assert told in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"custom_source_events": }', "firewall/mapping.json: expected JSON; Expecting value"),
        ('{"custom_source_events": {"a": 1, "a": 2}}', "the key a stands twice in one object"),
        ("[]", "firewall/mapping.json: expected an object, found list"),
    ],
)
def test_a_file_is_named(tmp_path: Path, text: str, told: str):
    file = tmp_path / "firewall" / "mapping.json"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(MappingError) as raised:
        load_mapping(file)
    assert told in str(raised.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    file = tmp_path / "mapping.json"
    file.write_bytes(b'{"\xff": 1}')
    with pytest.raises(MappingError, match="expected JSON"):
        load_mapping(file)


@pytest.mark.parametrize(
    ("text", "steps", "shown"),
    [
        ("$", (), "$"),
        ("$.a.b", ("a", "b"), "$.a.b"),
        ("$.a[10].b", ("a", 10, "b"), "$.a[10].b"),
        ("$.a['x.y']", ("a", "x.y"), "$.a['x.y']"),
        ("$.@timestamp", ("@timestamp",), "$.@timestamp"),
        ("$.two words", ("two words",), "$['two words']"),
        ("$.UserDefined.source_instance_id", ("source_instance_id",), "$.source_instance_id"),
        ("$.UserDefined", ("UserDefined",), "$.UserDefined"),
    ],
)
def test_a_path_is_its_steps(text: str, steps: tuple[str | int, ...], shown: str):
    found = parse_path(text)
    assert (found.document, found.steps, str(found)) == ("", steps, shown)


def test_a_path_of_a_document_has_its_name():
    found = parse_path("$data.Image")
    assert (found.document, found.steps, str(found)) == ("data", ("Image",), "$data.Image")


def test_a_chain_is_in_the_languages_order_whatever_the_files_is():
    written = {"$default": "x", "$case": "lower", "$of": "$.a", "$pattern": "(.)"}
    found = dict(parse_mapping(value(written)).kinds[0].root.attributes)["message"]
    order = []
    while isinstance(found, Change):
        order.append(found.how)
        found = found.of
    assert (order, found) == (["default", "case", "pattern"], parse_path("$.a"))


def test_every_path_of_an_expression_is_found():
    written = {
        "$first": [
            {"$concat": ["$.a", {"$of": "$.b", "$case": "lower"}]},
            {"enum": {"evaluate": "$.c", "values": {"x": 1}, "other": "$.d"}},
            {"$if": {"$all": [{"$not": {"$of": "$.e", "$exists": True}}]}, "$then": ["$.f"], "$else": {"g": "$.g"}},
        ]
    }
    found = dict(parse_mapping(value(written)).kinds[0].root.attributes)["message"]
    assert isinstance(found, First)
    assert [type(option) for option in found.options] == [Concat, Enum, If]
    assert isinstance(found.options[2], If)
    assert isinstance(found.options[2].then, ListOf)
    assert [str(path) for path in paths(found)] == ["$.a", "$.b", "$.c", "$.d", "$.e", "$.f", "$.g"]


def test_own_keys_win_over_what_is_included_and_a_keyword_is_not_merged():
    fragments = {"base": {"device": {"name": "base", "type_id": 0}, "message": {"$first": ["$.a"]}}}
    entry = {"$include": ["base"], "device": {"name": "own"}, "message": {"$concat": ["$.b"]}}
    document = mapping(
        **{"$fragments": fragments}, ocsf_mapping={"flow": {"schema": "network_activity", "schema_mapping": entry}}
    )
    root = dict(parse_mapping(json.loads(json.dumps(document))).kinds[0].root.attributes)
    assert root["device"] == ObjectOf((("name", Literal("own")), ("type_id", Literal(0))))
    assert root["message"] == Concat((parse_path("$.b"),))


def test_a_doubled_dollar_is_a_text():
    assert dict(parse_mapping(value("$$.a")).kinds[0].root.attributes)["message"] == Literal("$.a")
