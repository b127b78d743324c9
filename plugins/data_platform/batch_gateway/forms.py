"""The forms that single values of a job's spec may have, and how a misfit is told: what was expected, what was found."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from data_platform.batch_gateway.names import MAX_LABEL

DEFAULT_MAX_RUNNING_MILLIS: Final = 12 * 60 * 60 * 1000
"""How long the gateway lets a job run where neither the request nor its queue says otherwise."""
ROOT_QUEUE: Final = "root."
"""The gateway puts it before the queue's name and makes a label of both."""

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_MEMORY: Final = re.compile(r"(?P<amount>[0-9]+)(?P<unit>b|kb?|mb?|gb?|tb?|pb?)", re.IGNORECASE)
_UNITS: Final = "bkmgtp"
_SECRETS: Final = ("token", "secret", "passw", "apikey", "accesskey", "privatekey", "credential")
_INT: Final = 2**31 - 1
_LONG: Final = 2**63 - 1
_SHOWN: Final = 80

type Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Reading:
    """How a spec is read.

    Attributes:
        rendered: whether Jinja has been rendered, so that a text with ``{{`` no longer stands for another.
        max_running_millis: the most that ``bpg.maxRunningMillis`` may ask for, in ms.
    """

    rendered: bool = False
    max_running_millis: int = DEFAULT_MAX_RUNNING_MILLIS


class Problem(NamedTuple):
    """One thing that is wrong: where, and what was expected and found."""

    path: Path
    text: str


class Misfit(Exception):
    """A value does not have its form. Never leaves the package: the models turn it into their own error."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def as_pydantic(self) -> ValidationError:
        """As an error that pydantic puts the path of the field in front of."""
        details = [
            InitErrorDetails(
                type=PydanticCustomError("form", "{text}", {"text": problem.text}), loc=problem.path, input=None
            )
            for problem in self.problems
        ]
        return ValidationError.from_exception_data("form", details, hide_input=True)


type Check = Callable[[Any, Reading], Any]


def misfit(expected: str, found: str, note: str = "", *, path: Path = ()) -> Misfit:
    """A misfit of one problem.

    Args:
        expected: the right form, with an example.
        found: what is there, as `shown` or `kind` says it.
        note: what the gateway would make of it.
        path: from the value checked to the part that is wrong.
    """
    return Misfit(Problem(path, f"expected {expected}; found {found}" + (f" ({note})" if note else "")))


@dataclass(frozen=True)
class Form:
    """Makes a field of a model take one form: `check` decides.

    Attributes:
        check: returns the value as it is kept, or raises `Misfit`.
        required: what is expected, for a field that must be there.
    """

    check: Check
    required: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """How pydantic asks."""
        return core_schema.with_info_plain_validator_function(self.validate)

    def validate(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        """Pydantic's validator."""
        try:
            if value is None and self.required:
                raise misfit(self.required, "nothing")
            return None if value is None else allow_template(self.check)(value, reading_of(info))
        except Misfit as wrong:
            raise wrong.as_pydantic() from None


def reading_of(info: core_schema.ValidationInfo) -> Reading:
    """How this validation reads: a model made in a DAG file has no context, and may hold Jinja."""
    return info.context if isinstance(info.context, Reading) else Reading()


def is_template(value: Any) -> bool:
    """Whether Airflow will render the value."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def allow_template(check: Check) -> Check:
    """The check, but a text with Jinja passes as it is until it has been rendered."""

    def checked(value: Any, reading: Reading) -> Any:
        return value if not reading.rendered and is_template(value) else check(value, reading)

    return checked


def looks_secret(key: str) -> bool:
    """Whether what stands under such a key is better not shown."""
    letters = re.sub(r"[^a-z]", "", key.lower())
    return any(word in letters for word in _SECRETS)


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, str) and value:
        return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else kind(value)


def kind(value: Any) -> str:
    """What sort of value it is, for a message that must not show it."""
    if value is None or value == "":
        return "nothing"
    kinds: Sequence[tuple[type | tuple[type, ...], str]] = (
        ((str, SecretStr), "a text"),
        (bool, "true or false"),
        ((int, float), "a number"),
        (Mapping, "an object"),
        ((Sequence, Set), "a list"),
    )
    return next((name for types, name in kinds if isinstance(value, types)), f"a {type(value).__name__}")


def whole(*, minimum: int = 0, maximum: int = _INT, example: int | None = None, note: str = "") -> Check:
    """A whole number, or its digits: templates give texts.

    Args:
        minimum: the least allowed.
        maximum: the most allowed; Java's largest int if not given.
        example: for the message.
        note: what becomes of a fraction.
    """
    span = f"of {minimum} or more" if maximum in (_INT, _LONG) else f"from {minimum} to {maximum}"
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


def memory(*, no_unit: str, cut: bool) -> Check:
    """An amount as Spark reads it.

    Args:
        no_unit: what becomes of a number without a unit.
        cut: whether the gateway cuts fractions off; else Spark fails on them.
    """
    expected = "a whole number with a unit of Spark's (b, k, m, g, t or p), such as 1536m or 2g"

    def check(value: Any, reading: Reading) -> str:
        found = value if isinstance(value, str) else ""
        if parts := _MEMORY.fullmatch(found):
            amount = int(parts["amount"]) * 1024 ** _UNITS.index(parts["unit"][0].lower())
            if not 1024**2 <= amount <= _LONG:
                raise misfit(f"{expected}, from 1m to below 8192p", shown(value), "Spark counts whole m")
            return found
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or re.fullmatch(r"[0-9.]+", found):
            raise misfit(expected, shown(value), no_unit)
        if parts := re.fullmatch(r"(?P<whole>[0-9]*)\.[0-9]*(?P<unit>[A-Za-z]+)", found):
            made = f"the gateway would make it {parts['whole'] or 0}{parts['unit']}"
            raise misfit(expected, shown(value), made if cut else "Spark reads no fractions")
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
    """Cores or millicores. Kubernetes takes 0.5 too, but later gateways round it: 500m is the same to all."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch(r"0*[1-9][0-9]*m?", text.strip()):
        return text.strip()
    expected = "whole cores or millicores, such as 2 or 500m"
    raise misfit(expected, shown(value), "later gateways round fractions of a core" if "." in str(value) else "")


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
    if isinstance(value, str) and "-" in value:
        note = "the gateway takes what stands before the first dash of a submission id for the cluster and no longer finds the job"
        raise misfit("a cluster id without a dash, such as sparkclustera", shown(value), note)
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9.]*[a-z0-9])?", value):
        raise misfit("a cluster id of lower-case letters and digits, such as sparkclustera", shown(value))
    return value


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


def sequence(item: Check, example: str) -> Check:
    """A list, each item with Jinja or of the form."""

    def check(value: Any, reading: Reading) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence | Set):
            raise misfit(f"a list, such as {example}", kind(value))
        return tuple(_every([((at,), allow_template(item), part) for at, part in enumerate(value)], reading))

    return check


def mapping(key: Check, item: Callable[[str], Check], example: str) -> Check:
    """An object, each key of the form, each value with Jinja or of the form that goes with its key."""

    def check(value: Any, reading: Reading) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise misfit(f"an object, such as {example}", kind(value))
        keys = [((str(found),), key, found) for found in value]  # no Jinja: Airflow renders no keys
        values = [((str(found),), allow_template(item(str(found))), part) for found, part in value.items()]
        kept = _every([*keys, *values], reading)
        return dict(zip(kept[: len(keys)], kept[len(keys) :], strict=True))

    return check


def _every(parts: Sequence[tuple[Path, Check, Any]], reading: Reading) -> list[Any]:
    """Check all parts before anything is raised, so that every problem is told."""
    kept, problems = list[Any](), list[Problem]()
    for path, check, value in parts:
        try:
            kept.append(check(value, reading))
        except Misfit as wrong:
            problems += [Problem((*path, *problem.path), problem.text) for problem in wrong.problems]
    if problems:
        raise Misfit(*problems)
    return kept
