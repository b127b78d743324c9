"""The forms that single values of a job's spec may have; `spec_form` has what they are made with."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from pydantic import SecretStr

from data_platform.batch_gateway.names import MAX_LABEL
from data_platform.batch_gateway.spec_form import Check, Misfit, Reading, is_template, kind, misfit, shown

ROOT_QUEUE: Final = "root."
"""The gateway puts it before the queue's name and makes a label of both."""

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_CLUSTER: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_DIGITS: Final = re.compile(r"[0-9]+")
_CORES: Final = re.compile(r"[0-9]+m?|[0-9]+\.[0-9]{1,3}")
_MEMORY: Final = re.compile(r"(?P<amount>[0-9]+)(?P<unit>b|kb?|mb?|gb?|tb?|pb?)", re.IGNORECASE)
_UNITS: Final = "bkmgtp"
_INT: Final = 2**31 - 1
_LONG: Final = 2**63 - 1


def whole(
    *, minimum: int = 0, maximum: int = _INT, example: int | None = None, note: str = "", whose: str = ""
) -> Check:
    """A whole number, or its digits: templates give texts.

    Args:
        minimum: the least allowed.
        maximum: the most allowed; Java's largest int if not given.
        example: for the message.
        note: what becomes of a fraction.
        whose: whose limit the maximum is, so that the reader knows what to change.
    """
    span = (
        f"of {minimum} or more"
        if maximum in (_INT, _LONG)
        else f"from {minimum} to {maximum}{whose and ', which is '}{whose}"
    )
    expected = f"a whole number {span}" + (f", such as {example}" if example is not None else "")

    def check(value: Any, reading: Reading) -> int:
        digits = value.strip() if isinstance(value, str) else ""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole and not (_WHOLE.fullmatch(digits) and len(digits) <= 20):
            raise misfit(expected, shown(value), note if "." in str(value) else "")
        number = value if is_whole else int(digits)
        if not minimum <= number <= maximum:
            raise misfit(expected, shown(value))
        return int(number)

    return check


LONG: Final = _LONG


def factor(value: Any, reading: Reading) -> float:
    """A share of the memory."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise misfit("a number of 0 or more, such as 0.1", shown(value))
    return number


def switch(value: Any, reading: Reading) -> bool:
    """True or false, or the word: templates give texts."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word is True or word == "true":
        return True
    if word is False or word == "false":
        return False
    raise misfit("true or false", shown(value))


def memory(*, parsed: bool) -> Check:
    """An amount as Spark reads it.

    Args:
        parsed: whether the gateway reads it too, which needs a unit and cuts fractions off; else it is handed on, Spark takes a number
            for MiB and fails on fractions.
    """
    expected = "a whole number with a unit of Spark's (b, k, m, g, t or p), such as 1536m or 2g"

    def check(value: Any, reading: Reading) -> str:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        found = str(value) if is_number and not parsed else value if isinstance(value, str) else ""
        if parts := _MEMORY.fullmatch(found if parsed or not _DIGITS.fullmatch(found) else f"{found}m"):
            amount = int(parts["amount"]) * 1024 ** _UNITS.index(parts["unit"][0].lower())
            if not 1024**2 <= amount <= _LONG:
                raise misfit(f"{expected}, from 1m to below 8192p", shown(value), "Spark counts whole m")
            return found
        if is_number or re.fullmatch(r"[0-9.]+", found):
            raise misfit(
                expected,
                shown(value),
                "the gateway answers 500 without a unit" if parsed else "Spark reads no fractions",
            )
        if parts := re.fullmatch(r"(?P<whole>[0-9]*)\.[0-9]*(?P<unit>[A-Za-z]+)", found):
            made = f"the gateway would make it {parts['whole'] or 0}{parts['unit']}"
            raise misfit(expected, shown(value), made if parsed else "Spark reads no fractions")
        raise misfit(expected, shown(value))

    return check


def core_limit(value: Any, reading: Reading) -> str:
    """The one form of it that the gateway reads."""
    try:
        return str(whole(minimum=1)(value, reading))
    except Misfit:
        expected = "a whole number of cores without a unit, such as 2"
        raise misfit(expected, shown(value), "the gateway answers 500 to 1000m and to 1.5") from None


def core_request(value: Any, reading: Reading) -> str:
    """Cores or millicores; Kubernetes counts no less than a thousandth."""
    text = str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if _CORES.fullmatch(text) and float(text.rstrip("m")):
        return text
    raise misfit("cores or millicores, such as 2 or 500m", shown(value))


def word(*choices: str) -> Check:
    """One of some words; case counts."""

    def check(value: Any, reading: Reading) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise misfit(f"one of {', '.join(choices)}", shown(value))

    return check


def text(expected: str) -> Check:
    """A name, path or the like: not empty, one line, no blanks, and nothing of Jinja left over."""

    def check(value: Any, reading: Reading) -> str:
        if not isinstance(value, str) or not value.strip():
            raise misfit(expected, shown(value))
        if re.search(r"\s", value) or is_template(value):
            raise misfit(f"{expected}, without blanks or Jinja", shown(value))
        return value

    return check


def prose(expected: str) -> Check:
    """A text in which anything may stand; messages don't show it."""

    def check(value: Any, reading: Reading) -> str:
        if not isinstance(value, str) or not value.strip():
            raise misfit(expected, kind(value))
        return value

    return check


def version(example: str) -> Check:
    """A version. A number has lost something: YAML's and Python's 3.10 is 3.1."""
    expected = f"a version as a text, such as '{example}'"

    def check(value: Any, reading: Reading) -> str:
        if isinstance(value, float):
            raise misfit(expected, f"the number {value}", "3.10 as a number is 3.1")
        return str(text(expected)(str(value) if type(value) is int else value, reading))

    return check


def secret(value: Any, reading: Reading) -> SecretStr:
    """A text that is never shown."""
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(plain, str) or not plain.strip():
        raise misfit("a token", kind(plain))
    if re.search(r"\s", plain) or is_template(plain):
        raise misfit("a token without blanks or Jinja", "a text with some")
    return SecretStr(plain)


def name(*, maximum: int = 253) -> Check:
    """A Kubernetes object's name of one part."""

    def check(value: Any, reading: Reading) -> str:
        expected = (
            f"a Kubernetes name of at most {maximum} lower-case letters, digits and inner dashes, such as nightly-2"
        )
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise misfit(expected, shown(value))
        if len(value) > maximum:
            raise misfit(expected, f"{len(value)} characters, {shown(value)}")
        return value

    return check


def dotted_name(value: Any, reading: Reading) -> str:
    """A Kubernetes object's name, which may have dots."""
    if isinstance(value, str) and _LABEL_PREFIX.fullmatch(value):
        return value
    expected = "a Kubernetes name of lower-case letters, digits, inner dashes and dots, such as emr-containers-sa-spark"
    raise misfit(expected, shown(value))


def cluster_id(value: Any, reading: Reading) -> str:
    """The id of one of the gateway's clusters."""
    if isinstance(value, str) and _CLUSTER.fullmatch(value):
        return value
    raise misfit(
        "a cluster id of lower-case letters, digits, inner dots and dashes, such as sparkclustera", shown(value)
    )


def queue(value: Any, reading: Reading) -> str:
    """A queue's name; the gateway makes the label ``root.<queue>`` of it and drops needless dots."""
    longest = MAX_LABEL - len(ROOT_QUEUE)
    fits = isinstance(value, str) and _LABEL.fullmatch(value) and ".." not in value and len(value) <= longest
    if not fits:
        expected = f"a queue of at most {longest} letters, digits and inner dashes, underscores and single dots, such as dev or dev.etl"
        raise misfit(expected, shown(value))
    return str(value)


def label_value(value: Any, reading: Reading) -> str:
    """A label's value, as Kubernetes takes it; empty is allowed."""
    label = as_text(value, reading)
    if label and not _LABEL.fullmatch(label):
        expected = f"at most {MAX_LABEL} letters, digits and inner dashes, underscores and dots, such as spark-3.5.0"
        raise misfit(expected, shown(value), "Kubernetes refuses the label, and the gateway answers 500")
    return label


def label_key(value: Any, reading: Reading) -> str:
    """A label's or annotation's key: ``<name>`` or ``<domain>/<name>``."""
    prefix, slash, key = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    if not _LABEL.fullmatch(key) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        raise misfit("a key such as team or example.org/team", f"the key {shown(value)}", "Kubernetes refuses it")
    return str(value)


def environment_name(value: Any, reading: Reading) -> str:
    """An environment variable's name."""
    if isinstance(value, str) and _ENVIRONMENT_NAME.fullmatch(value):
        return value
    raise misfit("the variable's name in letters, digits, _, . and -, such as AWS_REGION", shown(value))


def as_text(value: Any, reading: Reading) -> str:
    """A text; numbers and booleans as Spark writes them. Messages don't show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float) and math.isfinite(value):
        return str(value)
    raise misfit("a text, a number, or true or false", kind(value) if not isinstance(value, float) else shown(value))


def filled_text(value: Any, reading: Reading) -> str:
    """`as_text`, but not empty."""
    found = as_text(value, reading)
    if not found.strip():
        raise misfit("a text that is not empty", "nothing")
    return found
