"""Read a contract file: YAML of the Open Data Contract Standard (ODCS), checked against the standard's own models.

The models of ``open-data-contract-standard`` accept unknown keys in all but the outermost object, and know no line numbers. So the file is
composed into YAML nodes first, which know their places; then every key is looked up in the models, and the models check the types. All
problems of a file are told at once, each with its place. https://bitol-io.github.io/open-data-contract-standard/v3.1.0/
"""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from open_data_contract_standard import model
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

API_VERSION = "v3.1.0"
KIND = "DataContract"

_REQUIRED: dict[type[BaseModel], tuple[str, ...]] = {
    model.AuthoritativeDefinition: ("type", "url"),
    model.CustomProperty: ("property", "value"),
    model.Role: ("role",),
    model.SchemaObject: ("name",),
    model.SchemaProperty: ("name",),
    model.Server: ("server", "type"),
    model.ServiceLevelAgreementProperty: ("property", "value"),
    model.Support: ("channel",),
    model.TeamMember: ("username",),
}
"""What the standard's JSON schema requires and its models don't; of the outermost object `include.contracts.promises` says it."""

type Place = tuple[str | int, ...]
"""Where in the document: keys and list indexes from the top."""


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong in a file, and where.

    Attributes:
        path: the file.
        line: from 1.
        column: from 1.
        expected: what the standard or the platform wants there.
        found: what stands there.
        remedy: what to do.
    """

    path: str
    line: int
    column: int
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: expected {self.expected}, found {self.found}; {self.remedy}"


@dataclass
class ContractFile:
    """A contract file as read, and what is wrong with it.

    Attributes:
        path: the file.
        name: the file as messages name it.
        data: the YAML as plain values; dates stay strings, as the standard has them.
        document: the standard's model of it; None if it can't be one.
        marks: line and column (from 1) of every key and list item.
        problems: grows as more is checked.
    """

    path: Path
    name: str
    data: Any = None
    document: model.OpenDataContractStandard | None = None
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, place: Place, expected: str, found: str, remedy: str) -> None:
        """Note a problem at ``place``, or at the nearest place around it that the file has."""
        while place and place not in self.marks:
            place = place[:-1]
        line, column = self.marks.get(place, (1, 1))
        self.problems.append(Problem(self.name, line, column, expected, found, remedy))


def nearest(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` if one of ``known`` is near, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def read_contract(path: Path, name: str) -> ContractFile:
    """Read ``path``; `ContractFile.problems` says what is wrong with it."""
    contract = ContractFile(path, name)
    try:
        contract.data = _plain(contract, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        contract.refuse((), "a text file in UTF-8", str(error), "write it anew")
        return contract
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        contract.marks[()] = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found = error.problem or "something else"
        if error.context and error.context_mark:
            found += f" ({error.context} that starts in line {error.context_mark.line + 1})"
        contract.refuse((), "well-formed YAML", found, "correct the line or what it belongs to")
        return contract
    except yaml.reader.ReaderError as error:
        contract.refuse((), "printable characters", f"{error.character!r} at {error.position}", "remove it")
        return contract
    if not isinstance(contract.data, dict):
        contract.refuse((), "keys and values", type(contract.data).__name__, f"start with `apiVersion: {API_VERSION}`")
    elif not contract.problems:
        _check_against_standard(contract)
    return contract


class _Loader(yaml.SafeLoader):
    """Safe, and dates stay strings: the standard's dates are strings."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same, several times as fast where there is libyaml."""


for _kind in (_Loader, _FastLoader):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _plain(contract: ContractFile, text: str) -> Any:
    try:
        return _loaded(contract, _FastLoader(text))
    except yaml.YAMLError:  # libyaml's words are others, and so are the places it tells
        contract.marks.clear()
        contract.problems.clear()
        return _loaded(contract, _Loader(text))


def _loaded(contract: ContractFile, loader: _Loader | _FastLoader) -> Any:
    try:
        node = loader.get_single_node()
        return None if node is None else _value(contract, loader, node, (), set())
    finally:
        loader.dispose()


def _value(contract: ContractFile, loader: _Loader | _FastLoader, node: yaml.Node, place: Place, seen: set[int]) -> Any:
    contract.marks.setdefault(place, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_object(node)
    if id(node) in seen:
        contract.refuse(place, "plain YAML", "an alias", "write the value out: an alias hides what is promised")
        return None
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(contract, loader, item, (*place, index), seen) for index, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else repr(key_node.tag)
        where = (*place, key)
        mark = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key in result:
            first = contract.marks[where][0]
            contract.marks[where] = mark
            contract.refuse(where, "each key once", f"{key!r} again (first in line {first})", "keep one of them")
            continue
        contract.marks[where] = mark
        result[key] = _value(contract, loader, value_node, where, seen)
    return result


def _check_against_standard(contract: ContractFile) -> None:
    for place, value, kind in _objects(contract.data, model.OpenDataContractStandard, ()):
        known = [one.alias or name for name, one in kind.model_fields.items()]
        for key in value.keys() - set(known):
            contract.refuse((*place, key), "a key of ODCS", repr(key), f"remove or correct it{nearest(key, known)}")
        for key in _REQUIRED.get(kind, ()):
            if value.get(key) is None:
                contract.refuse(place, f"the key {key}", "none", "add it")
    try:
        # strict: "yes" is not a boolean, and 3 is not a string
        contract.document = model.OpenDataContractStandard.model_validate(contract.data, strict=True)
    except ValidationError as error:
        told = {(problem.line, problem.column) for problem in contract.problems}
        for detail in error.errors():
            place = _place(contract, detail["loc"])
            if contract.marks.get(place, (1, 1)) in told:
                continue  # a union tells each of its members
            told.add(contract.marks.get(place, (1, 1)))
            expected = detail["msg"].removeprefix("Input should be ")
            contract.refuse(place, expected, _shown(detail["input"]), "correct the value")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "keys and values" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _place(contract: ContractFile, location: tuple[str | int, ...]) -> Place:
    """Pydantic names the members of a union in its locations: leave out what the document doesn't have."""
    place: Place = ()
    for part in location:
        if (*place, part) in contract.marks:
            place = (*place, part)
    return place


def _objects(value: Any, annotation: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any], type[BaseModel]]]:
    """Every object in ``value`` with the model that the standard has for it."""
    for member in _members(annotation):
        if isinstance(value, list) and typing.get_origin(member) is list:
            for index, item in enumerate(value):
                yield from _objects(item, typing.get_args(member)[0], (*place, index))
        elif isinstance(value, dict) and isinstance(member, type) and issubclass(member, BaseModel):
            yield place, value, member
            for name, known in member.model_fields.items():
                key = known.alias or name
                if key in value:
                    yield from _objects(value[key], known.annotation, (*place, key))


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)
