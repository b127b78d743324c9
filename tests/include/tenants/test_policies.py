"""The cases are those that IAM's user guide explains: evaluation logic, condition operators, multivalued keys, variables."""

from __future__ import annotations

import pytest

from include.tenants.policies import PolicyUnclear, evaluate, likeness, wanted_values

TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/Product-pooled"
GET = "dynamodb:GetItem"


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(**elements):
    return {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*", **elements}


def deny(**elements):
    return {**allow(**elements), "Effect": "Deny"}


def on(operator, key, *values):
    return {"Condition": {operator: {key: list(values)}}}


def allowed(statement, context=None, action=GET, resource=TABLE):
    return evaluate([policy(statement)], action, resource, context or {}).allowed


def test_nothing_is_allowed_by_no_statement():
    decision = evaluate([policy()], GET, TABLE, {})
    assert (decision.allowed, decision.explicit) == (False, False)
    assert not evaluate([], GET, TABLE, {})


def test_a_deny_anywhere_outweighs_every_allow():
    for policies in ([policy(allow(), deny(Sid="No"))], [policy(deny(Sid="No")), policy(allow())]):
        decision = evaluate(policies, GET, TABLE, {})
        assert (decision.allowed, decision.explicit, decision.statement) == (False, True, "No")


def test_a_deny_of_something_else_denies_nothing():
    assert evaluate([policy(allow(), deny(Action="dynamodb:PutItem"))], GET, TABLE, {})


def test_a_session_may_do_what_both_policies_allow():
    wide, narrow = policy(allow()), policy(allow(Action=GET))
    assert evaluate([wide], GET, TABLE, {}, narrow)
    assert not evaluate([wide], "dynamodb:PutItem", TABLE, {}, narrow)
    assert not evaluate([narrow], "dynamodb:PutItem", TABLE, {}, wide)
    assert evaluate([wide], GET, TABLE, {}, policy(deny(), allow())).explicit


@pytest.mark.parametrize(
    ("elements", "action", "expected"),
    [
        ({"Action": "dynamodb:GetItem"}, "dynamodb:GetItem", True),
        ({"Action": "DynamoDB:getitem"}, "dynamodb:GetItem", True),  # neither prefix nor name knows case
        ({"Action": ["dynamodb:PutItem", "dynamodb:Get*"]}, "dynamodb:GetItem", True),
        ({"Action": "dynamodb:?etItem"}, "dynamodb:GetItem", True),
        ({"Action": "dynamodb:?etItem"}, "dynamodb:PutItem", False),
        ({"Action": "dynamodb:Get"}, "dynamodb:GetItem", False),
        ({"Action": "*"}, "s3:GetObject", True),
        ({"Action": "s3:*"}, "dynamodb:GetItem", False),
    ],
)
def test_actions(elements, action, expected):
    assert allowed(allow(**elements), action=action) is expected


def test_not_action_applies_to_all_others():
    statement = {"Effect": "Allow", "NotAction": ["iam:*", "dynamodb:Scan"], "Resource": "*"}
    assert allowed(statement)
    assert not allowed(statement, action="dynamodb:scan")
    assert not allowed(statement, action="iam:CreateUser")


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("*", True),
        (TABLE, True),
        ("arn:aws:dynamodb:us-east-1:123456789012:table/Product-*", True),
        ("arn:aws:dynamodb:*:*:table/*", True),
        ("arn:aws:dynamodb:us-east-1:123456789012:table/Order-*", False),
        ("arn:aws:dynamodb:us-east-1:123456789012:table/product-pooled", False),  # names know case
        ("arn:aws:dynamodb:us-east-1:123456789012:table/Product", False),
        ("arn:aws:dynamodb:eu-*:123456789012:table/Product-pooled", False),
        ("arn:aws:dynamodb:*:table/Product-pooled:x:y", False),  # a wildcard does not reach over a colon
    ],
)
def test_resources(resource, expected):
    assert allowed(allow(Resource=resource)) is expected
    without = {"Effect": "Allow", "Action": "*", "NotResource": [resource]}
    assert allowed(without) is not expected


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("StringEquals", ["SpecificItem"], "SpecificItem", True),
        ("StringEquals", ["specificitem"], "SpecificItem", False),
        ("StringEquals", ["a", "b"], "b", True),  # one of several is enough
        ("StringEquals", ["Sp*"], "SpecificItem", False),  # no pattern
        ("StringNotEquals", ["a", "b"], "b", False),  # none of them may be
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringEqualsIgnoreCase", ["specificitem"], "SpecificItem", True),
        ("StringNotEqualsIgnoreCase", ["specificitem"], "SpecificItem", False),
        ("StringLike", ["A?_*"], "AL_ITEMS", True),
        ("StringLike", ["a*"], "AL_ITEMS", False),
        ("StringNotLike", ["AL*", "X*"], "AL_ITEMS", False),
        ("StringNotLike", ["X*"], "AL_ITEMS", True),
        ("StringEquals", ["a"], None, False),  # a missing key equals nothing
        ("StringLike", ["*"], None, False),
        ("StringNotEquals", ["a"], None, True),
        ("StringNotLike", ["*"], None, True),
        ("StringEqualsIfExists", ["a"], None, True),
        ("StringEqualsIfExists", ["a"], "b", False),
        ("StringLikeIfExists", ["b*"], "bc", True),
        ("Null", ["true"], None, True),
        ("Null", ["true"], "a", False),
        ("Null", ["false"], "a", True),
        ("Null", ["false"], None, False),
        ("Null", [True], None, True),
    ],
)
def test_operators_on_a_key_of_one_value(operator, wanted, found, expected):
    context = {} if found is None else {"dynamodb:Select": found}
    assert allowed(allow(**on(operator, "dynamodb:Select", *wanted)), context) is expected


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [("true", "true", True), ("True", True, True), ("false", "true", False), (None, "true", False), ("1", "1", False)],
)
def test_bool(found, wanted, expected):
    context = {} if found is None else {"aws:SecureTransport": found}
    assert allowed(allow(**on("Bool", "aws:SecureTransport", wanted)), context) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], ["a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a", "b"], [], True),  # the known trap
        ("ForAllValues:StringEquals", ["a", "b"], None, True),
        ("ForAllValues:StringEquals", ["a", "b"], [""], True),  # as good as none
        ("ForAllValues:StringNotEquals", ["a"], ["b", "c"], True),
        ("ForAllValues:StringNotEquals", ["a"], ["a", "b"], False),
        ("ForAllValues:StringLike", ["key1*", "key2*"], ["key1a", "key2b"], True),
        ("ForAllValues:StringLike", ["key1*", "key2*"], ["key1a", "x"], False),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c", "b"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
        ("ForAnyValue:StringEquals", ["a", "b"], [], False),
        ("ForAnyValue:StringEquals", ["a", "b"], None, False),
        ("ForAnyValue:StringNotEquals", ["a"], ["a", "b"], True),
        ("ForAnyValue:StringNotEquals", ["a"], ["a"], False),
        ("ForAnyValue:StringNotEquals", ["a"], [], False),
        ("ForAnyValue:StringLike", ["key*"], ["x", "key1"], True),
        ("Null", ["false"], [], False),
        ("Null", ["false"], ["a"], True),
        ("Null", ["false"], [""], False),
    ],
)
def test_operators_on_a_key_of_several_values(operator, wanted, found, expected):
    context = {} if found is None else {"dynamodb:LeadingKeys": found}
    assert allowed(allow(**on(operator, "dynamodb:LeadingKeys", *wanted)), context) is expected


def test_all_conditions_must_hold():
    statement = allow(
        Condition={
            "StringEquals": {"dynamodb:Select": "COUNT", "aws:PrincipalTag/team": "a"},
            "Null": {"dynamodb:LeadingKeys": "false"},
        }
    )
    whole = {"dynamodb:Select": "COUNT", "aws:PrincipalTag/team": "a", "dynamodb:LeadingKeys": ["k"]}
    assert allowed(statement, whole)
    for name in whole:
        assert not allowed(statement, {key: value for key, value in whole.items() if key != name})


def test_names_of_keys_know_no_case():
    assert allowed(allow(**on("StringEquals", "DYNAMODB:SELECT", "COUNT")), {"dynamodb:select": "COUNT"})


TAGGED = {"aws:PrincipalTag/tenant": "acme"}


@pytest.mark.parametrize(
    ("statement", "context", "expected"),
    [
        (allow(**on("ForAllValues:StringLike", "dynamodb:LeadingKeys", "${aws:PrincipalTag/tenant}-*")), TAGGED, True),
        (allow(**on("ForAllValues:StringLike", "dynamodb:LeadingKeys", "${aws:PrincipalTag/tenant}-*")), {}, False),
        (allow(**on("ForAllValues:StringNotLike", "dynamodb:LeadingKeys", "${aws:PrincipalTag/tenant}")), {}, False),
        (
            allow(**on("ForAllValues:StringLike", "dynamodb:LeadingKeys", "${aws:PrincipalTag/tenant}-*")),
            {"aws:PrincipalTag/tenant": "*"},  # a wildcard in a value is none
            False,
        ),
        (
            allow(**on("ForAllValues:StringEquals", "dynamodb:LeadingKeys", "${aws:PrincipalTag/tenant}-1")),
            TAGGED,
            True,
        ),
        (allow(Resource="arn:aws:dynamodb:*:*:table/Product-${aws:PrincipalTag/tenant}"), TAGGED, False),
        (
            allow(Resource="arn:aws:dynamodb:*:*:table/Product-${aws:PrincipalTag/tenant}"),
            {"aws:PrincipalTag/tenant": "pooled"},
            True,
        ),
        (allow(Resource="arn:aws:dynamodb:*:*:table/Product-${aws:PrincipalTag/tenant}"), {}, False),
        (allow(Resource="arn:aws:dynamodb:*:*:table/Product-${*}"), {}, False),
    ],
)
def test_variables(statement, context, expected):
    assert allowed(statement, {"dynamodb:LeadingKeys": ["acme-1"], **context}) is expected


@pytest.mark.parametrize(
    ("statement", "context"),
    [
        (allow(**on("StringEquals", "aws:SourceIp", "1.2.3.4")), {}),
        (allow(**on("NumericLessThan", "dynamodb:Select", "1")), {}),
        (allow(**on("ForSomeValues:StringEquals", "dynamodb:LeadingKeys", "a")), {}),
        (allow(**on("StringEquals", "dynamodb:LeadingKeys", "a")), {}),  # IAM does not say what that means
        (allow(**on("ForAllValues:StringEquals", "dynamodb:Select", "a")), {}),
        (allow(**on("Null", "dynamodb:Select", "maybe")), {}),
        (allow(Principal="*"), {}),
        (allow(NotAction="s3:*"), {}),
        ({"Effect": "Allow", "Action": "*"}, {}),
        (allow(Effect="allow"), {}),
        (allow(Resource="arn:aws:dynamodb"), {}),
        (allow(), {"aws:SourceIp": "1.2.3.4"}),
        (allow(), {"dynamodb:LeadingKeys": "a"}),
        (allow(), {"dynamodb:Select": ["a"]}),
        (allow(**on("StringEquals", "dynamodb:Select", "${aws:username, 'nobody'}")), {"dynamodb:Select": "a"}),
        (allow(**on("StringEquals", "dynamodb:Select", "${aws:unheard}")), {"dynamodb:Select": "a"}),
        (deny(**on("StringEquals", "dynamodb:Select", "${aws:username}")), {"dynamodb:Select": "a"}),
    ],
)
def test_what_is_not_understood_is_refused(statement, context):
    with pytest.raises(PolicyUnclear):
        allowed(statement, context)


def test_what_is_not_understood_is_refused_even_where_the_statement_is_of_something_else():
    with pytest.raises(PolicyUnclear):
        allowed(allow(Action="s3:*", **on("IpAddress", "aws:SourceIp", "1.2.3.4")))


@pytest.mark.parametrize("version", ["2008-10-17", None])
def test_a_policy_of_another_version_is_refused(version):
    with pytest.raises(PolicyUnclear, match="2012-10-17"):
        evaluate([{"Version": version, "Statement": [allow()]}], GET, TABLE, {})


def test_values_of_the_same_likeness_are_decided_alike():
    """Whatever the operator: that is what lets many tenants be examined at once."""
    operators = [
        f"{each}{operator}"
        for each in ("ForAllValues:", "ForAnyValue:")
        for operator in ("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringLike", "StringNotLike")
    ]
    values = ["a-1", "A-1", "a-*", "a-2", "a-2-1", "b", "B", "a", "a-?", "*"]
    for operator in operators:
        for wanted in (["a-1", "a-*"], ["a-?"], ["A-1", "b"], ["*"], [""]):
            made = policy(allow(**on(operator, "dynamodb:LeadingKeys", *wanted)))
            kinds = {}
            for value in values:
                kind = likeness(wanted_values([made], "DynamoDB:leadingkeys"), value)
                decision = evaluate([made], GET, TABLE, {"dynamodb:LeadingKeys": [value]}).allowed
                assert kinds.setdefault(kind, decision) == decision, (operator, wanted, value)
