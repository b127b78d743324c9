"""How a value of a job's spec is held to a form, and how a misfit is told: what was expected, what was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import SecretStr, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

_SECRETS: Final = ("token", "secret", "passw", "apikey", "accesskey", "privatekey", "credential")
_SHOWN: Final = 80

type Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Reading:
    """How a spec is read.

    Attributes:
        rendered: whether Jinja has been rendered, so that a text with ``{{`` no longer stands for another.
        max_running_millis: the most that ``bpg.maxRunningMillis`` may ask for, in ms; None where nobody knows the queue's limit.
    """

    rendered: bool = False
    max_running_millis: int | None = None


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
