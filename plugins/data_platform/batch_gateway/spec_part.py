"""What all parts of a job's spec have in common: frozen, every key known, every problem told with its path."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from data_platform.batch_gateway import forms, spec_form
from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.spec_form import Form, Misfit, Path, Problem, Reading, misfit

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

_LIKENESS: Final = 0.8
"""Of a slip of the pen and the key that was meant, by difflib; below, words that have nothing to do with each other are alike, too."""


class Part(BaseModel):
    """A part of the request: frozen, each key known, each problem told with its path.

    Every model raises `SpecRefused`; `Nested` hands the problems of a part on to the whole.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        revalidate_instances="always",
        hide_input_in_errors=True,
    )
    unknown_key: ClassVar[str] = "the gateway would silently ignore it"
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Keys that others know and the gateway does not: what to do instead."""

    @model_validator(mode="wrap")
    @classmethod
    def _tell_every_problem(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: core_schema.ValidationInfo
    ) -> Self:
        contradictions = list(cls._contradictions(value, spec_form.reading_of(info)))
        try:
            part = handler(value)
        except ValidationError as error:
            raise refused([*map(cls._problem, error.errors(include_url=False)), *contradictions]) from None
        if contradictions:
            raise refused(contradictions)
        return part

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        """Problems between fields, told beside those of single fields; so ``value`` may be anything."""
        yield from ()

    @classmethod
    def _problem(cls, error: Any) -> Problem:
        """Pydantic's words for a problem in ours."""
        path: Path = error["loc"]
        if path and path[0] in cls.model_fields:  # a part that is checked again has Python's names
            path = (cls.model_fields[str(path[0])].alias or path[0], *path[1:])
        if error["type"] == "form":
            return Problem(path, error["msg"])
        if error["type"] == "missing":
            return Problem(path, f"expected {cls._needed(str(path[-1]))}; found nothing")
        if error["type"] == "extra_forbidden":
            return Problem(path, cls._unknown(str(path[-1])))
        if error["type"] == "invalid_key":
            return Problem(path, "expected a text as key; found something else")
        return Problem(path, f"expected an object with {', '.join(cls._keys())}; found something else")

    @classmethod
    def _keys(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def _needed(cls, key: str) -> str:
        field = next(field for name, field in cls.model_fields.items() if key in (name, field.alias))
        return next((form.required for form in field.metadata if isinstance(form, Form | Nested)), "a value")

    @classmethod
    def _unknown(cls, key: str) -> str:
        if instead := cls.elsewhere.get(to_camel(key)):
            return f"expected no {key} here: {instead}; found it, and {cls.unknown_key}"
        keys = {each.lower(): each for each in cls._keys()}
        nearest = difflib.get_close_matches(to_camel(key).lower(), keys, 1, cutoff=_LIKENESS)
        expected = f"expected {keys[nearest[0]]}" if nearest else f"expected only {', '.join(keys.values())}"
        return f"{expected}; found the unknown key {key[:80]}, and {cls.unknown_key}"

    def to_mapping(self) -> dict[str, Any]:
        """The part as a template field holds it: the gateway's names, nothing that is None, a token still hidden."""
        fields = type(self).model_fields.items()
        told = {field.alias or name: _plain(getattr(self, name)) for name, field in fields}
        return {key: value for key, value in told.items() if value is not None}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without fields that are not set, and without what looks like a secret."""
        for name, value in super().__repr_args__():
            if isinstance(value, Mapping):
                yield name, {key: "**********" if spec_form.looks_secret(key) else each for key, each in value.items()}
            elif value is not None:
                yield name, value


class Nested:
    """Makes a field take a part of the request, or a list of such parts, or Jinja that will be one."""

    def __init__(self, model: type[Part], *, many: bool = False, required: str = "", example: str = "") -> None:
        self.model = model
        self.many = many
        self.required = required
        self.example = example

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic asks."""
        return core_schema.with_info_plain_validator_function(self.validate)

    def validate(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        """Pydantic's validator."""
        check = spec_form.sequence(self._one, self.example) if self.many else self._one
        return Form(check, self.required).validate(value, info)

    def _one(self, value: Any, reading: Reading) -> Part:
        if not isinstance(value, Part | Mapping):
            example = f", such as {self.example}" if self.example and not self.many else ""
            raise misfit(self.required or f"an object{example}", spec_form.kind(value))
        try:
            return self.model.model_validate(value, context=reading)
        except SpecRefused as error:
            raise Misfit(*error.problems) from None


# Fields' types, each with its form. All of them are str too: Jinja.
Text = Annotated[str | None, Form(forms.prose("a text"))]
Switch = Annotated[bool | str | None, Form(forms.switch)]
Image = Annotated[str | None, Form(forms.text("an image, such as registry.example.org/spark:3.5.0"))]


def needed(expected: str) -> Form:
    """The form of a name or path that must be there."""
    return Form(forms.text(expected), expected)


def refused(problems: Sequence[Problem]) -> SpecRefused:
    """The refusal that tells all problems, a line each."""
    lines = [f"- {_told(problem.path)}: {problem.text}" for problem in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    head = f"the job's spec is refused before anything is sent, for {count}:"
    return SpecRefused("\n".join([head, *lines]), tuple(problems))


def _told(path: Path) -> str:
    told = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path)
    return told.removeprefix(".") or "the spec"


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_mapping()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def peek(value: Any, *path: str) -> Any:
    """What stands at a path of camel-case or Python's names in a mapping or a part; None if nothing does."""
    for key in path:
        snake = "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in key)
        if isinstance(value, Mapping):
            value = value.get(to_camel(snake), value.get(snake))
        else:
            value = getattr(value, snake, None) if isinstance(value, Part) else None
    return value
