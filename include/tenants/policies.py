"""What an IAM policy allows, worked out here: the local stand-in stores policies and enforces none.

Only what is understood is evaluated, by the rules of IAM's policy reference. Anything else (an unknown element, operator, condition key)
raises `PolicyUnclear`: a check that guesses could call a policy safe that is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from include.tenants.exceptions import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    type Context = Mapping[str, str | Sequence[str]]
    """Condition keys of a request and their values; a list where a key may have several."""

VERSION: Final = "2012-10-17"
_ELEMENTS: Final = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_VALUES_OF: Final = {
    # of one value
    "dynamodb:select": False,
    "dynamodb:returnvalues": False,
    "dynamodb:returnconsumedcapacity": False,
    "dynamodb:enclosingoperation": False,
    "dynamodb:fulltablescan": False,
    "aws:principalarn": False,
    "aws:principalaccount": False,
    "aws:resourceaccount": False,
    "aws:requestedregion": False,
    "aws:securetransport": False,
    "aws:sourcevpc": False,
    "aws:sourcevpce": False,
    "aws:userid": False,
    "aws:username": False,
    # of several
    "dynamodb:leadingkeys": True,
    "dynamodb:attributes": True,
    "aws:tagkeys": True,
    "aws:calledvia": True,
}
"""The condition keys that are understood, in lower case, and whether a request may have several values of each."""
_TAGS: Final = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/")
_ARN_PARTS: Final = 6
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_LITERALS: Final = frozenset("*?$")
"""``${*}`` stands for an asterisk that is none of a pattern."""


class PolicyUnclear(MigrationError):
    """A policy, or a request, says something that is not understood here; it counts as not allowed."""


@dataclass(frozen=True)
class Decision:
    """Whether a request is allowed.

    Attributes:
        allowed: whether.
        explicit: whether a statement denies it; else no statement allows it.
        statement: the statement that decided, by its Sid or its position; empty if none did.
    """

    allowed: bool
    explicit: bool = False
    statement: str = ""

    def __bool__(self) -> bool:
        return self.allowed


def evaluate(
    policies: Iterable[Mapping[str, Any]],
    action: str,
    resource: str,
    context: Context,
    session: Mapping[str, Any] | None = None,
) -> Decision:
    """Decide a request by the policies of an identity; one explicit deny outweighs all that is allowed.

    Args:
        policies: of the identity, all of them.
        action: such as ``dynamodb:GetItem``.
        resource: its ARN.
        context: condition keys of the request.
        session: policy that the session was begun with: what it does not allow is denied, whatever the identity may do.

    Raises:
        PolicyUnclear: something is not understood.
    """
    given = {name.lower(): value for name, value in context.items()}
    for name, value in given.items():
        if _several(name) is isinstance(value, str):
            raise PolicyUnclear(
                f"the request's {name}: expected {'a list' if _several(name) else 'one value'}, found {value!r}"
            )
    decisions = [_evaluate_all(list(policies), action, resource, given)]
    if session is not None:
        decisions.append(_evaluate_all([session], action, resource, given))
    denied = next((each for each in decisions if each.explicit), None)
    return denied or next((each for each in decisions if not each.allowed), decisions[-1])


def wanted_values(policies: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    """All values that conditions of the policies compare a key with."""
    found: dict[str, None] = {}
    for policy in policies:
        for _, statement in _statements(policy):
            for keys in statement.get("Condition", {}).values():
                for name, values in keys.items():
                    if name.lower() == key.lower():
                        found.update(dict.fromkeys(str(value) for value in _list(values)))
    return list(found)


def likeness(wanted: Iterable[str], value: str) -> tuple[tuple[bool, bool, bool], ...]:
    """How a value of a key compares with each of `wanted_values`; two of the same likeness are decided alike, whatever the operators."""
    return tuple(
        (value == each, value.lower() == each.lower(), _pattern(each).fullmatch(value) is not None) for each in wanted
    )


def _evaluate_all(policies: Sequence[Mapping[str, Any]], action: str, resource: str, context: Context) -> Decision:
    allowed = None
    for policy in policies:
        for name, statement in _statements(policy):
            if not _applies(statement, action, resource, context):
                continue
            if statement["Effect"] == "Deny":
                return Decision(allowed=False, explicit=True, statement=name)
            allowed = allowed or Decision(allowed=True, statement=name)
    return allowed or Decision(allowed=False)


def _statements(policy: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    unknown = set(policy) - {"Version", "Id", "Statement"}
    if unknown or policy.get("Version") != VERSION:
        raise PolicyUnclear(
            f"expected a policy of version {VERSION} with Statement, found version {policy.get('Version')!r} and {sorted(policy)}"
        )
    named = []
    for position, statement in enumerate(_list(policy.get("Statement", []))):
        name = statement.get("Sid") or str(position)
        one_of_each = all((one in statement) != (f"Not{one}" in statement) for one in ("Action", "Resource"))
        if set(statement) - _ELEMENTS or statement.get("Effect") not in {"Allow", "Deny"} or not one_of_each:
            raise PolicyUnclear(
                f"statement {name}: expected Effect, Action or NotAction, Resource or NotResource, and perhaps Condition; "
                f"found {sorted(statement)} with Effect {statement.get('Effect')!r}"
            )
        named.append((name, statement))
    return named


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    # every part is looked at, so that what is not understood is found whatever the others say
    deny = statement["Effect"] == "Deny"
    parts = [
        any(_pattern(each.lower()).fullmatch(action.lower()) for each in _list(statement["Action"]))
        if "Action" in statement
        else not any(_pattern(each.lower()).fullmatch(action.lower()) for each in _list(statement["NotAction"])),
        any(_same_resource(each, resource, context, deny=deny) for each in _list(statement["Resource"]))
        if "Resource" in statement
        # an ARN that can't be told must not widen what a statement applies to
        else not any(_same_resource(each, resource, context, deny=True) for each in _list(statement["NotResource"])),
    ]
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            parts.append(_holds(operator, key, _list(values), context, deny=deny))
    return all(parts)


def _same_resource(pattern: str, resource: str, context: Context, *, deny: bool) -> bool:
    if pattern == "*":
        return True
    patterns, parts = pattern.split(":", _ARN_PARTS - 1), resource.split(":", _ARN_PARTS - 1)
    if len(patterns) != _ARN_PARTS or len(parts) != _ARN_PARTS:
        raise PolicyUnclear(f"expected ARNs of {_ARN_PARTS} parts or *, found {pattern!r} for {resource!r}")
    # a wildcard does not reach over a colon, but in the last part
    return all(
        regex is not None and regex.fullmatch(part)
        for regex, part in zip((_like(each, context, deny=deny) for each in patterns), parts, strict=True)
    )


def _holds(operator: str, key: str, wanted: Sequence[str], context: Context, *, deny: bool) -> bool:
    name, several = key.lower(), _several(key.lower())
    found = context.get(name)
    found_values = [found] if isinstance(found, str) else [each for each in found or () if each]
    if operator == "Null":
        [absent] = wanted
        if str(absent).lower() not in {"true", "false"}:
            raise PolicyUnclear(f"Null {key}: expected true or false, found {absent!r}")
        return (str(absent).lower() == "true") is not any(found_values)
    quantifier, _, plain = operator.rpartition(":")
    if_exists = plain.endswith("IfExists")
    compare = _COMPARISONS.get(plain.removesuffix("IfExists"))
    if compare is None or quantifier not in {"", "ForAllValues", "ForAnyValue"} or bool(quantifier) is not several:
        raise PolicyUnclear(f"condition {operator} on {key}: it is not understood")
    matches, negated = compare
    if not found_values:
        # IAM: for all of none is true, for any of none is not; a missing key equals nothing
        return quantifier == "ForAllValues" or if_exists or (negated and not quantifier)
    results = [
        any(_matches(matches, str(each), value, context, deny=deny, unknown=negated) for each in wanted) is not negated
        for value in found_values
    ]
    return any(results) if quantifier == "ForAnyValue" else all(results)


def _matches(
    matches: Callable[[str, str], bool] | None,
    wanted: str,
    found: str,
    context: Context,
    *,
    deny: bool,
    unknown: bool,
) -> bool:
    """Whether a value is the wanted one; ``unknown`` where the request lacks a variable: so that the condition does not hold."""
    if matches is None:
        regex = _like(wanted, context, deny=deny)
        return unknown if regex is None else regex.fullmatch(found) is not None
    value = _filled(wanted, context, deny=deny)
    return unknown if value is None else matches(value, found)


def _equal(wanted: str, found: str) -> bool:
    return wanted == found


def _equal_ignoring_case(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower()


def _same_truth(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower() and found.lower() in {"true", "false"}


_COMPARISONS: Final[Mapping[str, tuple[Callable[[str, str], bool] | None, bool]]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equal_ignoring_case, True),
    "StringLike": (None, False),
    "StringNotLike": (None, True),
    "Bool": (_same_truth, False),
}
"""How a value is compared (None: as a pattern), and whether the operator is its negation."""


def _several(key: str) -> bool:
    if key.startswith(_TAGS):
        return False
    if key not in _VALUES_OF:
        raise PolicyUnclear(f"condition key {key}: it is not understood")
    return _VALUES_OF[key]


def _filled(text: str, context: Context, *, deny: bool) -> str | None:
    """The text with its variables' values; None if the request lacks one."""
    parts = _parts(text, context, deny=deny)
    return None if parts is None else "".join(part for part, _ in parts)


def _like(text: str, context: Context, *, deny: bool) -> re.Pattern[str] | None:
    """The text as a pattern; None if the request lacks a variable. Wildcards in a variable's value are none."""
    if "$" not in text:
        return _pattern(text)
    parts = _parts(text, context, deny=deny)
    if parts is None:
        return None
    return re.compile("".join(_as_regex(part) if wild else re.escape(part) for part, wild in parts), re.DOTALL)


def _parts(text: str, context: Context, *, deny: bool) -> list[tuple[str, bool]] | None:
    """Pieces of a text with its variables filled in, and whether wildcards of each count."""
    pieces = []
    position = 0
    for variable in _VARIABLE.finditer(text):
        pieces.append((text[position : variable.start()], True))
        name = variable[1]
        if name in _LITERALS:
            value: str | Sequence[str] | None = name
        elif "," in name:
            raise PolicyUnclear(f"variable {variable[0]}: a default is not understood")
        elif _several(name.lower()):
            raise PolicyUnclear(f"variable {variable[0]}: it may have several values")
        else:
            value = context.get(name.lower())
        if not isinstance(value, str):
            if deny:
                raise PolicyUnclear(f"variable {variable[0]} of a statement that denies: the request does not have it")
            return None
        pieces.append((value, False))
        position = variable.end()
    return [*pieces, (text[position:], True)]


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(_as_regex(text), re.DOTALL)


def _as_regex(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
