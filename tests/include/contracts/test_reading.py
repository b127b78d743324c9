"""A contract that can't be held is refused with its place, what was expected and what to do."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from include.contracts.compile import compile_checks
from include.contracts.exceptions import MOST_PROBLEMS, ContractInvalid
from include.contracts.load import load_products
from include.contracts.warehouse_types import Dialect
from tests.include.contracts.contracts_harness import TRIAL, line_of


def refusal(contracts, text):
    """The problems of the contract ``text``, as (line, message)."""
    contracts.write(text)
    with pytest.raises(ContractInvalid) as refused:
        load_products("shop", contracts.root)
    return [(problem.line, str(problem)) for problem in refused.value.problems]


def changed(old, new):
    assert TRIAL.count(old) == 1, f"{old!r} stands there {TRIAL.count(old)} times"
    return TRIAL.replace(old, new)


def test_the_trial_contract_is_valid_by_the_standards_own_schema():
    validator = jsonschema.Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))
    assert not [error.message for error in validator.iter_errors(yaml.safe_load(TRIAL))]


def test_yaml_that_is_malformed_is_told_with_line_and_column(contracts):
    text = changed("role: owner}", "role: owner")
    ((line, message),) = refusal(contracts, text)
    start = line_of(text, "role: owner")
    assert line == start + 1
    assert re.search(rf"contract\.odcs\.yaml:{line}:\d+: expected well-formed YAML", message)
    assert f"(while parsing a flow mapping that starts in line {start})" in message


def test_an_indentation_that_slipped_is_told_where_it_is(contracts):
    text = changed("  usage: In tests.", "   usage: In tests.")
    ((line, message),) = refusal(contracts, text)
    assert line == line_of(text, "usage: In tests.")
    assert "mapping values are not allowed here" in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_a_file_without_keys_is_told_how_to_start(contracts, text):
    ((_, message),) = refusal(contracts, text)
    assert "start with `apiVersion: v3.1.0`" in message


def test_a_file_that_is_not_text_is_told(contracts):
    contracts.write().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractInvalid, match="expected a text file in UTF-8"):
        load_products("shop", contracts.root)


# old, new, a needle of the line that is told, what the message says
MISTAKES = {
    "unknown key": (
        "    description: One row per customer.",
        "    descripton: One row per customer.",
        "descripton",
        "did you mean 'description'",
    ),
    "key twice": (
        "status: active",
        "status: active\nstatus: draft",
        "status: draft",
        "'status' again (first in line 6)",
    ),
    "alias": ("  usage: In tests.", "  usage: &u [x]\n  limits: *u", "limits: *u", "plain YAML, found an alias"),
    "wrong type": (
        "        unique: true",
        "        unique: sometimes",
        "unique: sometimes",
        "expected a valid boolean, found 'sometimes'",
    ),
    "number for a string": ("version: 2.3.4", "version: 2.3", "version: 2.3", "expected a valid string, found 2.3"),
    "list for a string": ("name: Orders", "name: [Orders]", "name: [Orders]", "expected a valid string, found a list"),
    "other version of the standard": (
        "apiVersion: v3.1.0",
        "apiVersion: v3.0.2",
        "apiVersion",
        "write `apiVersion: v3.1.0`",
    ),
    "another kind": ("kind: DataContract", "kind: DataProduct", "kind: DataP", "expected kind: DataContract"),
    "another domain": ("domain: shop", "domain: finance", "domain:", "expected domain: shop, found 'finance'"),
    "another product": ("dataProduct: orders", "dataProduct: order", "dataProduct:", "expected dataProduct: orders"),
    "no id": (
        "id: 0b9b3f0e-7c0e-4e55-8a3e-1f8f0f6f2a11\n",
        "",
        "apiVersion",
        "id: the contract's UUID, found nothing; add it",
    ),
    "id that is none": ("id: 0b9b3f0e-7c0e", "id: 7c0e", "id: 7c0e", "a UUID in lower case"),
    "no purpose": ("  purpose: To try every kind of check.\n", "", "description:\n", "what the product is for"),
    "no members": ("  members:\n    - {username: ada@example.com, role: owner}\n", "", "team:", "at least one member"),
    "version": ("version: 2.3.4", 'version: "2"', 'version: "2"', "major.minor.patch, found '2'"),
    "status": ("status: active", "status: activ", "status: activ", "did you mean 'active'"),
    "classification": (
        "description: A code.\n        classification: internal",
        "description: A code.\n        classification: privat",
        "classification: privat",
        "public, internal, confidential, personal, found 'privat'",
    ),
    "no classification": (
        "description: A note.\n        classification: internal\n",
        "description: A note.\n",
        "name: note",
        "a classification of note",
    ),
    "no description of a column": ("        description: A note.\n", "", "name: note", "a description of note"),
    "type": ("physicalType: bigint", "physicalType: bigin", "bigin", "expected one of bigint"),
    "type without precision": (
        "physicalType: numeric(18,2)",
        "physicalType: numeric",
        "physicalType: numeric",
        "numeric(18,2)",
    ),
    "types that disagree": (
        "logicalType: boolean",
        "logicalType: string",
        "",
        "expected logicalType boolean for boolean, found 'string'",
    ),
    "name of a column": ("      - name: paid", "      - name: is paid", "is paid", "lower-case letters"),
    "column twice": ("      - name: paid", "      - name: note", "", "each column once, found 'note' again"),
    "key positions": ("primaryKeyPosition: 2", "primaryKeyPosition: 3", "", "primaryKeyPosition 1, 2, 3"),
    "nested column": (
        "description: Whether it is paid.",
        "description: Whether it is paid.\n        items: {name: x}",
        "items: {name: x}",
        "expected a plain column, found the key items",
    ),
    "option of another type": ("{minLength: 3}", "{minimum: 3}", "{minimum: 3}", "minLength, maxLength, pattern"),
    "bound that is no date": ('minimum: "2020-01-01"', 'minimum: "1.1.2020"', "1.1.2020", "a date such as 2008-01-31"),
    "longer than its type": (
        "maxLength: 6,",
        "maxLength: 7,",
        "maxLength: 7",
        "expected at most the type's 6, found 7",
    ),
    "pattern of one warehouse": ('"^[a-z]+$"', r'"^\\w+$"', r"\\w", "write it with [0-9]"),
    "pattern that is none": ('"^[a-z]+$"', '"^[a-z+$"', "[a-z+$", "a regular expression"),
    "rule without id": (
        "      - id: enough\n        metric",
        "      - metric",
        "metric: rowCount",
        "an id of the rule",
    ),
    "rule in words": (
        "        metric: rowCount\n",
        "        type: text\n",
        "type: text",
        "a rule of type library or sql, found 'text'",
    ),
    "rule of another engine": (
        "        metric: rowCount\n",
        "        type: custom\n        engine: soda\n",
        "type: custom",
        "found 'custom'",
    ),
    "metric": ("metric: rowCount", "metric: rowCounts", "rowCounts", "did you mean 'rowCount'"),
    "metric of a relation on a column": (
        "metric: nullValues",
        "metric: rowCount",
        "",
        "rowCount in the rules of the relation",
    ),
    "no threshold": ("        mustBeBetween: [3, 10]\n", "", "id: enough", "expected one of mustBe"),
    "two thresholds": (
        "mustBeBetween: [3, 10]",
        "mustBeBetween: [3, 10]\n        mustBe: 4",
        "id: enough",
        "found mustBe, mustBeBetween",
    ),
    "threshold the wrong way round": ("[3, 10]", "[10, 3]", "[10, 3]", "the smaller number first"),
    "threshold that is no number": (
        "mustNotBe: 3",
        "mustNotBe: three",
        "mustNotBe: three",
        "expected a number, found 'three'",
    ),
    "threshold of one": ("[3, 10]", "[3]", "[3]", "at least 2 items"),
    "severity": (
        "description: No fee exceeds its amount.",
        "description: No.\n        severity: high",
        "severity: high",
        "error (blocks) or warning",
    ),
    "dimension": ("dimension: accuracy", "dimension: accuracie", "accuracie", "did you mean 'accuracy'"),
    "unit": ("unit: rows", "unit: dozen", "unit: dozen", "rows or percent"),
    "schedule of a rule": (
        "mustNotBe: 3",
        "mustNotBe: 3\n            schedule: 0 1 * * *",
        "schedule:",
        "a rule that every build checks",
    ),
    "argument": ('{pattern: "^[^0-9]*$"}', '{patern: "^[^0-9]*$"}', "patern", "did you mean 'pattern'"),
    "no argument": (
        "            arguments: {validValues: [true]}\n",
        "",
        "id: all",
        "arguments of invalidValues: validValues or pattern",
    ),
    "value of another type": (
        "validValues: [true]",
        "validValues: [1]",
        "validValues: [1]",
        "a value of type boolean, found 1",
    ),
    "value with a template": ('[new, "it\'s"', '["${x}", "it\'s"', '"${x}"', "a value of type string"),
    "columns of a key": (
        "{properties: [code, kind]}",
        "{properties: [code, kinds]}",
        "kinds",
        "use one of day, number",
    ),
    "two statements": (
        "where fee > amount",
        "where fee > amount; drop table x",
        "drop table",
        "expected one query, found a semicolon",
    ),
    "statement that changes": (
        "select count(*) from ${object} where fee > amount",
        "with x as (delete from ${object}) select 1",
        "delete",
        "found delete",
    ),
    "statement that is none": (
        "select count(*) from ${object} where fee > amount",
        "drop table ${object}",
        "drop table",
        "starts with select or with, found drop",
    ),
    "comment": ("where fee > amount", "where fee > amount -- x", "-- x", "without comments"),
    "backslash": ("where fee > amount", r"where note > '\\'", "note >", "found a backslash"),
    "strings of dollars": ("where fee > amount", "where note > $$;$$", "note >", "found a semicolon"),
    "support without channel": ("channel: shop-data, ", "", "mailto", "expected the key channel, found none"),
    "server without type": ("type: duckdb, ", "", "shop.duckdb", "expected the key type, found none"),
    "open quote": ("where fee > amount", "where note > 'amount", "note > 'amount", "a quote that never closes"),
    "placeholder": (
        "from ${object} where fee > amount",
        "from ${tabel} where fee > amount",
        "${tabel}",
        "found ${tabel}",
    ),
    "column's placeholder": (
        "where fee > amount",
        "where ${column} > amount",
        "${column} > amount",
        "a column's placeholder",
    ),
    "no placeholder": (
        "from ${object} where fee > amount",
        "from rpt_orders where fee > amount",
        "from rpt_orders",
        "the relation as ${object}",
    ),
    "template": ("where fee > amount", "where {{ fee }} > amount", "{{ fee }}", "SQL without Jinja"),
    "reference to nothing": (
        "to: customers.customer_id",
        "to: customers.client",
        "id: exists",
        "found customers.client",
    ),
    "reference that is none": (
        "to: customers.customer_id",
        "to: customers",
        "to: customers",
        "relation.column of this contract",
    ),
    "reference of another length": (
        "to: [rpt_orders.day, rpt_orders.number]",
        "to: [rpt_orders.day]",
        "id: day-is-known",
        "as many columns",
    ),
    "reference from elsewhere": (
        "from: [rpt_orders.day, rpt_orders",
        "from: [customers.customer, rpt_orders",
        "from:",
        "expected rpt_orders.<column>",
    ),
    "service level": ("property: retention", "property: retension", "retension", "did you mean 'retention'"),
    "freshness of nothing": (
        "element: orders.changed_at",
        "element: changed_at",
        "element:",
        "relation.column of this contract",
    ),
    "freshness of another column": (
        "element: orders.changed_at",
        "element: orders.changed",
        "element:",
        "did you mean 'changed_at'",
    ),
    "freshness of a number": (
        "element: orders.changed_at",
        "element: orders.amount",
        "element:",
        "a column of type date or timestamp",
    ),
    "freshness in fortnights": ("    unit: d\n", "    unit: fortnight\n", "value: 2\n", "a number above 0 and a unit"),
    "custom property": (
        "property: severity, value: warning}\n  - {",
        "property: sevrity, value: warning}\n  - {",
        "sevrity",
        "one of the custom properties severity",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_at_its_line(contracts, name):
    old, new, needle, says = MISTAKES[name]
    text = changed(old, new)
    told = refusal(contracts, text)
    assert any(says in message for _, message in told), told
    if needle:
        lines = text.splitlines()
        at = [lines[line - 1] for line, message in told if says in message]
        assert any(needle.strip() in line for line in at), (at, told)


def test_a_column_is_told_too(contracts):
    text = changed(
        "        classification: public\n        required: true",
        "        classification: publik\n        required: true",
    )
    contracts.write(text)
    with pytest.raises(ContractInvalid) as refused:
        load_products("shop", contracts.root)
    (problem,) = refused.value.problems
    assert (problem.line, problem.column) == (line_of(text, "publik"), 9)


def test_several_problems_are_told_at_once_in_the_order_of_the_file(contracts):
    text = changed("status: active", "status: activ").replace("physicalType: bigint", "physicalType: bigin")
    told = refusal(contracts, text)
    assert [line for line, _ in told] == [line_of(text, "status: activ"), line_of(text, "bigin")]


def test_an_unknown_key_hides_no_other_problem(contracts):
    text = changed("      - name: paid\n", "      - name: paid\n        clasification: public\n").replace(
        "rowCount", "rowCont"
    )
    told = refusal(contracts, text)
    assert [line for line, _ in told] == [line_of(text, "rowCont"), line_of(text, "clasification")]


def test_what_is_told_is_bounded(contracts):
    text = re.sub(r"physicalType: \S+", "physicalType: nonsense", TRIAL).replace(
        "classification: ", "classification: un"
    )
    contracts.write(text)
    with pytest.raises(ContractInvalid) as refused:
        load_products("shop", contracts.root)
    assert len(refused.value.problems) > MOST_PROBLEMS
    assert len(str(refused.value).splitlines()) == MOST_PROBLEMS + 1
    assert str(refused.value).endswith(f"and {len(refused.value.problems) - MOST_PROBLEMS} more")


def test_a_date_stays_a_string_as_the_standard_has_it(contracts):
    contracts.write(changed('"2020-01-01"', "2020-01-01"))
    (product,) = load_products("shop", contracts.root)
    assert product.relations[1].columns[0].options["minimum"] == "2020-01-01"


def ends_well(contracts, text):
    """Whether the contract is good, and then compiles; a refusal with places is fine, any other exception isn't."""
    contracts.write(text)
    try:
        (product,) = load_products("shop", contracts.root)
    except ContractInvalid as error:
        refused = error
    else:
        return all(compile_checks(product, dialect, "audit") for dialect in Dialect)
    assert refused.problems
    assert all(problem.line > 0 and problem.remedy for problem in refused.problems)
    return False


def test_whatever_line_is_lost_the_contract_is_good_or_refused(contracts):
    lines = TRIAL.splitlines(keepends=True)
    good = [ends_well(contracts, "".join([*lines[:number], *lines[number + 1 :]])) for number in range(len(lines))]
    assert True in good
    assert False in good


@pytest.mark.parametrize("value", ["null", "[null]", "-1"])
def test_whatever_value_is_put_the_contract_is_good_or_refused(contracts, value):
    lines = TRIAL.splitlines(keepends=True)
    good = []
    for number, line in enumerate(lines):
        key, colon, rest = line.partition(":")
        if colon and rest.strip():
            good.append(ends_well(contracts, "".join([*lines[:number], f"{key}: {value}\n", *lines[number + 1 :]])))
    assert good
    assert False in good
