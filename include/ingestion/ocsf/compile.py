"""A source's mapping, compiled to the SQL of one engine.

Two steps of SQL, the first for all records of a chunk, the second for those of one kind:

1. **parsed**: each record's fields as texts (one pass over its JSON), the keys of each object that the mapping reads, its documents, its
   kind.
2. **mapped**: texts → typed leaves → what is wrong with the event, if anything; one flat column for each leaf of the OCSF event, which the
   caller puts together to structs (in Arrow that costs nothing).

What a record has beyond what its mapping reads is found by its *shape*: the lists of its keys. Few shapes occur in a log, so the caller
asks for the distinct ones and `shapes` tells from them whether a key repeats and what is left over: a few more columns, mostly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from include.ingestion.ocsf.dialect import NOT_HEXADECIMAL
from include.ingestion.ocsf.language import (
    RECORD,
    Change,
    Concat,
    Condition,
    Document,
    Enum,
    Expression,
    First,
    If,
    Kind,
    ListOf,
    Literal,
    MappingError,
    MappingFile,
    ObjectOf,
    Path,
    Step,
    is_constant,
    parse_path,
    paths,
)
from include.ingestion.ocsf.schema import Attribute, OcsfClass, Shape, ocsf_class
from include.ingestion.places import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from include.ingestion.ocsf.dialect import DuckDb
    from include.ingestion.ocsf.spark_dialect import Spark

    type Dialect = DuckDb | Spark

FOUND_CHARACTERS: Final = 80
"""How much of a wrong value a reason quotes."""

UNMAPPED: Final = "unmapped"
_WHOLE: Final = 10_000
"""Records below this many bytes can't hold a text longer than OCSF's longest, 65,535 characters, even if the mapping joins some."""


@dataclass(frozen=True)
class SourceRules:
    """What a source's ``source.yaml`` adds to its mapping.

    Attributes:
        version: OCSF version.
        nested: path → ``json`` or ``lines``: texts that hold a document.
        account: path of the event's account, where the object's key doesn't tell.
        region: the same of the region.
        default_account: where neither tells, for an engine that can't add it later.
        default_region: likewise.
        keep_unmapped: whether ``unmapped`` keeps what the mapping doesn't read.
        earliest: epoch ms, the first time that an event may have.
        latest: epoch ms, the first that it may not.
    """

    version: str
    nested: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    region: str | None = None
    default_account: str | None = None
    default_region: str | None = None
    keep_unmapped: bool = True
    earliest: int = 946_684_800_000
    latest: int = 4_102_444_800_000


@dataclass(frozen=True)
class Leaf:
    """One column of a mapped event.

    Attributes:
        path: attribute names from the event down.
        column: its name in the SQL.
        kind: scalar kind (see `Attribute.scalar`); of the items for a list.
        is_array: whether it is a list.
        fields: for a list of objects: name and scalar kind of each attribute of an item, as SQL has them.
    """

    path: tuple[str, ...]
    column: str
    kind: str
    is_array: bool = False
    fields: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class KindPlan:
    """How the events of one kind are mapped.

    Attributes:
        value: of the matched field.
        class_name: OCSF class.
        leaves: columns of the event but ``unmapped``.
        sql: reads ``parsed``, gives ``n``, ``problem``, ``account``, ``region``, the leaves and, as flat columns ``u0``, ``u1`` … named by
            ``explicit``, what the mapping puts into ``unmapped``; right for records that have nothing left over.
        rest_at: where in ``sql`` more columns may be put in.
        sql_rest: right for all: ``unmapped`` as a map, with what is left over. It needs the records themselves, ``raw``.
        explicit: keys that the mapping puts into ``unmapped``.
        reads: each path that the mapping reads, and SQL of its text in ``parsed``.
        broken: what is wrong with the mapping itself, so that no event of this kind is valid; empty where nothing is.
    """

    value: str
    class_name: str
    leaves: tuple[Leaf, ...]
    sql: str
    rest_at: int
    sql_rest: str
    broken: tuple[str, ...]
    explicit: tuple[str, ...] = ()
    reads: tuple[tuple[str, str], ...] = field(repr=False, default=())
    levels: tuple[_Level, ...] = field(repr=False, default=())
    picks: tuple[_Pick, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class _Level:
    """An object of the record that a kind reads: what it takes from it."""

    document: str
    text: str
    steps: tuple[str, ...]
    read: frozenset[str]
    entered: frozenset[str]
    nested: Mapping[str, str]
    index: int
    prefix: str
    lines: bool


@dataclass
class _Reads:
    """What a kind takes from each object, and which it looks into, by document and steps."""

    levels: dict[tuple[str, tuple[str, ...]], tuple[set[str], set[str]]] = field(
        default_factory=lambda: {(RECORD, ()): (set(), set())}
    )

    def enter(self, name: str, steps: tuple[str, ...]) -> None:
        """Look into the object at ``steps``, and into those around it."""
        self._at(name, ())
        for depth, step in enumerate(steps):
            self._at(name, steps[:depth])[1].add(step)
            self._at(name, steps[: depth + 1])

    def take(self, name: str, steps: tuple[str, ...]) -> None:
        """Read the value at ``steps``."""
        self.enter(name, steps[:-1])
        self._at(name, steps[:-1])[0].add(steps[-1])

    def _at(self, name: str, steps: tuple[str, ...]) -> tuple[set[str], set[str]]:
        return self.levels.setdefault((name, steps), (set(), set()))


@dataclass(frozen=True)
class _Pick:
    """A named document as one kind reads it."""

    document: str
    text: str
    read: frozenset[str]


@dataclass
class _Doc:
    """A JSON text that fields are read from: the record, a nested text, a named document."""

    name: str
    text: str
    layers: list[dict[str, Any]] = field(default_factory=list)
    places: dict[tuple[Step, ...], str] = field(default_factory=dict)
    levels: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A compiled source.

    Attributes:
        parsed: SQL that reads the table ``chunk`` (``n``, ``raw``, ``account``, ``region``; records that are JSON objects) and gives
            ``parsed``.
        shapes: SQL that gives the distinct shapes of ``parsed``: ``kind`` and one column for each of `shape_columns`.
        kinds: by matched value; ``*`` is any other.
        needs_raw: whether a kind reads the record as a whole.
        lines: texts of ``Key: value`` lines, in which the first of a repeated key counts.
    """

    parsed: str
    shapes: str
    shape_columns: tuple[str, ...]
    kinds: Mapping[str, KindPlan]
    layouts: Mapping[str, Layout]
    levels: Mapping[str, Mapping[tuple[str, ...], int]] = field(repr=False, default_factory=dict)
    candidates: Mapping[str, tuple[tuple[str, ...], ...]] = field(repr=False, default_factory=dict)
    needs_raw: bool = False
    lines: frozenset[tuple[str, ...]] = frozenset()

    def kind_of(self, value: str | None) -> KindPlan | None:
        """The plan for a matched value."""
        return None if value is None else self.kinds.get(value) or self.kinds.get("*")


Layout = dict[str, Any]
"""Attributes of a class that a source fills, as a tree: a scalar kind, ``[kind]``, ``{…}`` or ``[{…}]``, in the order of the mapping."""


def compile_source(mapping: MappingFile, rules: SourceRules, dialect: Dialect) -> Plan:
    """Compile every kind of a source.

    Raises:
        MappingError: a class or version that OCSF lacks, a path the language can't read. What is wrong with a single attribute is
            not raised but told in `KindPlan.broken`: the events of that kind are set aside with it, all others go on.
    """
    return _Compiler(mapping, rules, dialect).plan()


class _Compiler:
    def __init__(self, mapping: MappingFile, rules: SourceRules, dialect: Dialect) -> None:
        self.mapping = mapping
        self.rules = rules
        self.sql = dialect
        self.nested = {_keys(parse_path(text, "nested"), "nested"): how for text, how in rules.nested.items()}
        self.lines = {_nested_name(steps) for steps, how in self.nested.items() if how == "lines"}
        self.docs: dict[str, _Doc] = {RECORD: _Doc(RECORD, "raw")}
        for number, steps in enumerate(self.nested):
            self.docs[_nested_name(steps)] = _Doc(_nested_name(steps), f"nested{number}")
        self.named = {document.name: document for document in mapping.documents}
        for document in mapping.documents:
            self.docs[document.name] = _Doc(document.name, f"document_{document.name}")
            for candidate in document.candidates:
                self._candidate(candidate, document)
        self.fields: dict[str, str] | None = None
        """Texts that the kind being compiled reads, each worked out once under a name of its own."""
        self.extra = [parse_path(text) for text in (rules.account, rules.region) if text]

    # --- reading -------------------------------------------------------------------------------------------------------------------

    def _candidate(self, candidate: Path, document: Document) -> None:
        if candidate.document != RECORD:
            raise MappingError(f"$documents.{document.name}: expected paths of the record, found {candidate}")
        steps = _keys(candidate, f"$documents.{document.name}")
        if steps:
            self._place(RECORD, steps)

    def home(self, path: Path) -> tuple[str, tuple[Step, ...]]:
        """The document that a path is read from, and where in it."""
        if path.document != RECORD:
            if len(path.steps) != 1 or isinstance(path.steps[0], int):
                raise MappingError(f"expected one field of the document ${path.document}, found {path}")
            return path.document, path.steps
        for steps in self.nested:
            if len(path.steps) > len(steps) and path.steps[: len(steps)] == steps:
                rest = path.steps[len(steps) :]
                if len(rest) != 1 or isinstance(rest[0], int):
                    raise MappingError(f"expected one field of the text $.{'.'.join(steps)}, found {path}")
                return _nested_name(steps), rest
        return RECORD, path.steps

    def _place(self, name: str, steps: tuple[Step, ...]) -> str:
        """SQL of the text at a place of a document, as column of ``parsed``."""
        document = self.docs[name]
        if not steps:
            return "raw"
        if steps not in document.places:
            if any(isinstance(step, int) for step in steps):
                document.places[steps] = f"{document.text}_at{len(document.places)}"
            else:
                keys = tuple(str(step) for step in steps)
                layer = next((place for place, tree in enumerate(document.layers) if fits(tree, keys)), None)
                if layer is None:
                    layer = len(document.layers)
                    document.layers.append({})
                tree = document.layers[layer]
                for key in keys[:-1]:
                    tree = tree.setdefault(key, {})
                tree[keys[-1]] = None
                document.places[steps] = self.sql.field(f"{document.text}_fields{layer}", keys)
        return document.places[steps]

    def path_text(self, path: Path) -> str:
        name, steps = self.home(path)
        place = self._place(name, steps)
        if not steps:
            return place
        text = f"CASE WHEN {self.sql.one_of(place, self.mapping.missing)} THEN NULL ELSE {place} END"
        if self.fields is None:
            return text
        return self.fields.setdefault(text, f"f{len(self.fields)}")

    # --- texts ---------------------------------------------------------------------------------------------------------------------

    def text(self, expression: Expression | None) -> str:  # noqa: C901 - one case a keyword
        """SQL of the text that an expression gives; none where it has no value."""
        sql = self.sql
        match expression:
            case None | Literal(value=None):
                return sql.null(sql.types["text"])
            case Literal(value=value):
                return sql.text(_text_of(value))
            case Path():
                return self.path_text(expression)
            case Enum(evaluate=evaluate, values=values, other=other):
                asked = self.text(evaluate)
                if not values:
                    return self.text(other)
                cases = " ".join(f"WHEN {sql.text(key)} THEN {self.text(Literal(value))}" for key, value in values)
                return f"CASE {asked} {cases} ELSE {self.text(other)} END"
            case First(options=options):
                return f"coalesce({', '.join(self.text(option) for option in options)})"
            case Concat(parts=parts):
                return "(" + " || ".join(self.text(part) for part in parts) + ")"
            case If(condition=condition, then=then, otherwise=otherwise):
                return f"CASE WHEN {self.condition(condition)} THEN {self.text(then)} ELSE {self.text(otherwise)} END"
            case Change(of=of, how=how, by=by):
                text = self.text(of)
                if how == "pattern":
                    return sql.extract(text, by, min(re.compile(by).groups, 1))
                if how == "case":
                    return f"{by}({text})"
                if how == "base":
                    return sql.hexadecimal(text)
                if how == "default":
                    return f"coalesce({text}, {sql.text(_text_of(by))})"
                return text  # a time, or a list: told by who asks for it
        raise MappingError(f"expected a single value, found {type(expression).__name__}")

    def condition(self, condition: Condition) -> str:
        sql = self.sql
        if condition.how in ("all", "any"):
            if not condition.parts:
                return "true" if condition.how == "all" else "false"
            word = " AND " if condition.how == "all" else " OR "
            return "(" + word.join(self.condition(part) for part in condition.parts) + ")"
        if condition.how == "not":
            return f"NOT {self.condition(condition.parts[0])}"
        text = self.text(condition.of)
        if condition.how == "exists":
            return f"({text} IS {'NOT ' if condition.by else ''}NULL)"
        test = sql.one_of(text, condition.by) if condition.how == "in" else sql.matches(text, condition.by)
        return f"coalesce({test}, false)"

    def milliseconds(self, expression: Expression | None, formats: tuple[str, ...] = ()) -> str:
        """SQL of the epoch milliseconds of an expression; each part of it by the formats that were said for it."""
        sql = self.sql
        match expression:
            case Change(of=of, how="time", by=by):
                return self.milliseconds(of, by)
            case Change(of=of, how="default", by=by):
                given, default = self.milliseconds(of, formats), self.milliseconds(Literal(by), formats)
                return f"CASE WHEN {self.text(of)} IS NOT NULL THEN {given} ELSE {default} END"
            case First(options=options):
                cases = " ".join(
                    f"WHEN {self.text(option)} IS NOT NULL THEN {self.milliseconds(option, formats)}"
                    for option in options
                )
                return f"CASE {cases} END"
            case If(condition=condition, then=then, otherwise=otherwise):
                return (
                    f"CASE WHEN {self.condition(condition)} THEN {self.milliseconds(then, formats)} "
                    f"ELSE {self.milliseconds(otherwise, formats)} END"
                )
            case Path() if not formats and expression == self.mapping.time_path and self.mapping.time_format:
                return sql.milliseconds(self.text(expression), (self.mapping.time_format,))
        return sql.milliseconds(self.text(expression), formats)

    # --- the plan ------------------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        for steps in self.nested:
            self._place(RECORD, steps)
        for document in self.mapping.documents:
            for candidate in document.candidates:
                self._place(RECORD, tuple(candidate.steps) or (document.having,))
        drafts = [_Draft(self, kind) for kind in self.mapping.kinds]
        layouts: dict[str, Layout] = {}
        for draft in drafts:
            _merge_layout(layouts.setdefault(draft.ocsf.name, {}), draft.layout, draft.ocsf.name)
        matched = self.text(self.mapping.matched)
        account = self._told(self.rules.account, self.rules.default_account)
        region = self._told(self.rules.region, self.rules.default_region)
        for draft in drafts:
            self.fields = draft.fields
            draft.draft(layouts[draft.ocsf.name])
            self.fields = None
            draft.find_levels()
        parsed = self._parsed(matched, account, region)
        kinds = {draft.kind.value: draft.finish() for draft in drafts}
        columns = tuple(
            [f"{document.text}_keys" for document in self.docs.values() if document.levels]
            + [f"{self.docs[name].text}_pick" for name in self.named]
        )
        chosen = ", ".join(("kind", *columns))
        return Plan(
            parsed,
            f"SELECT DISTINCT {chosen} FROM parsed",
            columns,
            kinds,
            layouts,
            {
                document.text: {steps: index for index, steps in enumerate(document.levels)}
                for document in self.docs.values()
            },
            {
                self.docs[name].text: tuple(_keys(candidate, name) for candidate in document.candidates)
                for name, document in self.named.items()
            },
            any(not path.document and not path.steps for kind in self.mapping.kinds for path in paths(kind.root)),
            frozenset(steps for steps, how in self.nested.items() if how == "lines"),
        )

    def _told(self, path: str | None, default: str | None) -> str:
        """SQL of an event's account or region, where its object's key does not tell."""
        found = [self.path_text(parse_path(path))] if path else []
        found += [self.sql.text(default)] if default else []
        return ", ".join(found) or "NULL"

    def _parsed(self, matched: str, account: str, region: str) -> str:
        """Nested selects, each adding columns that the next one needs."""
        sql = self.sql
        records = [
            f"{sql.fields('raw', tree)} AS raw_fields{layer}" for layer, tree in enumerate(self.docs[RECORD].layers)
        ]
        given = f"SELECT n, raw, {sql.size('raw')} AS bytes{_and(sql.carried)}, account AS key_account, region AS key_region"
        stage = f"{given}{_and(records)}{_and(self._columns(RECORD))} FROM chunk"
        picked = {candidate: document for document in self.mapping.documents for candidate in document.candidates}
        for steps, how in self.nested.items():
            name = _nested_name(steps)
            text = self.docs[name].text
            place = self._place(RECORD, steps)
            parse = sql.document(place, steps) if how == "json" else sql.lines_document(place, steps)
            document = picked.get(Path(RECORD, steps))
            if document is not None and not self.docs[name].places:
                # Only a document reads it: not needed where a candidate before it is chosen.
                before = document.candidates[: document.candidates.index(Path(RECORD, steps))]
                having = [self._having(one, document) for one in before if _nested_name(one.steps) not in self.docs]
                if having:
                    parse = f"CASE WHEN NOT ({' OR '.join(having)}) THEN {parse} END"
            stage = f"SELECT *, {parse} AS {text} FROM ({stage}) s"
            layers = [
                f"{sql.fields(text, tree)} AS {text}_fields{layer}" for layer, tree in enumerate(self.docs[name].layers)
            ]
            columns = layers + self._columns(name)
            if columns:
                stage = f"SELECT *{_and(columns)} FROM ({stage}) s"
        for document in self.mapping.documents:
            text = self.docs[document.name].text
            tests = [
                f"WHEN {self._having(candidate, document)} THEN {place}"
                for place, candidate in enumerate(document.candidates)
            ]
            stage = f"SELECT *, CASE {' '.join(tests)} END AS {text}_pick FROM ({stage}) s"
            texts = [
                f"WHEN {place} THEN {self._document_text(candidate)}"
                for place, candidate in enumerate(document.candidates)
            ]
            stage = f"SELECT *, CASE {text}_pick {' '.join(texts)} END AS {text} FROM ({stage}) s"
            layers = [
                f"{sql.fields(text, tree)} AS {text}_fields{layer}"
                for layer, tree in enumerate(self.docs[document.name].layers)
            ]
            stage = f"SELECT *{_and(layers)}{_and(self._columns(document.name))} FROM ({stage}) s"
        return (
            f"SELECT *, {matched} AS kind, coalesce(key_account, {account}) AS account, "
            f"coalesce(key_region, {region}) AS region FROM ({stage}) s"
        )

    def _columns(self, name: str) -> list[str]:
        document = self.docs[name]
        text = document.text
        found = [
            f"{self.sql.text_at(text, steps)} AS {column}"
            for steps, column in document.places.items()
            if any(isinstance(step, int) for step in steps)
        ]
        if document.levels:
            found.append(f"{self.sql.keys(text, document.levels)} AS {text}_keys")
        return found

    def _document_text(self, candidate: Path) -> str:
        steps = tuple(str(step) for step in candidate.steps)
        if not steps:
            return self.sql.record
        if steps in self.nested:
            return self.docs[_nested_name(steps)].text
        return self.sql.object(self._place(RECORD, steps), steps)

    def _having(self, candidate: Path, document: Document) -> str:
        if not candidate.steps:
            text = self._place(RECORD, (document.having,))
        else:
            text = self.sql.text_at(self._document_text(candidate), (document.having,))
        return f"coalesce({text} IS NOT NULL AND NOT {self.sql.one_of(text, self.mapping.missing)}, false)"


@dataclass
class _Column:
    """A leaf on its way: texts first, then typed, then checked."""

    name: str
    attribute: Attribute
    path: str
    text: str | None
    typed: str
    constant: bool
    is_list: bool
    checked: bool = True
    always: bool = False
    present: _Presence | None = None


class _Presence:
    """Whether an object stays: if a leaf in it that is no literal has a value."""

    def __init__(self, outer: _Presence | None) -> None:
        self.outer = outer
        self.columns: list[str] = []

    @property
    def always(self) -> bool:
        """Whether it is the event itself, or stays with it."""
        return self.outer is None

    def add(self, column: str) -> None:
        """Another leaf in it, and in all around it."""
        self.columns.append(column)
        if self.outer is not None:
            self.outer.add(column)

    def sql(self) -> str:
        """SQL that is true where it stays."""
        if self.outer is None:
            return "true"
        return " OR ".join(f"{column} IS NOT NULL" for column in self.columns) or self.outer.sql()


class _Draft:
    """One kind, compiled."""

    def __init__(self, compiler: _Compiler, kind: Kind) -> None:
        self.compiler = compiler
        self.sql = compiler.sql
        self.kind = kind
        self.version = kind.version or compiler.rules.version
        self.broken: list[str] = []
        profiles = _profiles(kind.root)
        self.ocsf: OcsfClass = ocsf_class(self.version, kind.class_name, profiles)
        self.root = self._with_class(kind.root)
        self.layout: Layout = {}
        self._layout(self.root, self.ocsf.shape, self.layout, ())
        self.columns: list[_Column] = []
        self.leaves: list[Leaf] = []
        self.checks: list[tuple[str, str]] = []
        self.levels: tuple[_Level, ...] = ()
        self.picks: tuple[_Pick, ...] = ()
        self.explicit: list[tuple[str, str]] = []
        self.fields: dict[str, str] = {}

    def _with_class(self, root: ObjectOf) -> ObjectOf:
        """The event with what its class tells, where the mapping leaves it out."""
        have = dict(root.attributes)
        uid = self.ocsf.uid
        given: dict[str, Expression] = {
            "category_uid": Literal(self.ocsf.category_uid),
            "category_name": Literal(self.ocsf.category_name),
            "class_uid": Literal(uid),
            "class_name": Literal(self.ocsf.caption),
        }
        activity = have.get("activity_id")
        if isinstance(activity, Literal) and isinstance(activity.value, int):
            given["type_uid"] = Literal(uid * 100 + activity.value)
        elif isinstance(activity, Enum) and all(isinstance(value, int) for _, value in activity.values):
            other = activity.other
            if other is None or (isinstance(other, Literal) and isinstance(other.value, int)):
                given["type_uid"] = Enum(
                    activity.evaluate,
                    tuple((key, uid * 100 + value) for key, value in activity.values),
                    Literal(uid * 100 + other.value) if isinstance(other, Literal) else None,
                )
        if "type_uid" not in have and "type_uid" not in given and activity is not None:
            given["type_uid"] = _Computed("type_uid", activity, uid)  # type: ignore[assignment]
        metadata = have.get("metadata")
        if isinstance(metadata, ObjectOf) and "version" not in dict(metadata.attributes):
            have["metadata"] = ObjectOf((*metadata.attributes, ("version", Literal(self.version))))
        elif metadata is None:
            have["metadata"] = ObjectOf((("version", Literal(self.version)),))
        return ObjectOf((*((key, value) for key, value in given.items() if key not in have), *have.items()))

    # --- layout --------------------------------------------------------------------------------------------------------------------

    def _layout(self, node: ObjectOf, shape: Shape, layout: Layout, path: tuple[str, ...]) -> None:
        for name, value in node.attributes:
            if not path and name == UNMAPPED:
                continue
            at = ".".join((*path, name))
            attribute = shape.get(name)
            if attribute is None:
                self.broken.append(f"{at}: not an attribute of {shape.name} in OCSF {self.version}")
                continue
            if attribute.scalar == "object" and attribute.shape is not None:
                value = _as_objects(value, attribute)
                if value is None:
                    self.broken.append(f"{at}: expected the object {attribute.type_name}, found a single value")
                    continue
                below: Layout = {}
                if attribute.is_array:
                    for item in value.items:
                        self._layout(item, attribute.shape, below, (*path, name))
                    layout[name] = [below]
                else:
                    self._layout(value, attribute.shape, below, (*path, name))
                    if below:
                        layout[name] = below
            elif isinstance(value, ObjectOf):
                self.broken.append(f"{at}: expected a single value of the type {attribute.type_name}, found an object")
            else:
                layout[name] = [attribute.scalar] if attribute.is_array else attribute.scalar

    # --- columns -------------------------------------------------------------------------------------------------------------------

    def draft(self, layout: Layout) -> None:
        """Compile the leaves."""
        self._object(self.root, self.ocsf.shape, layout, (), _Presence(None), self.leaves)
        self.explicit = self._explicit()

    def _object(
        self,
        node: ObjectOf,
        shape: Shape,
        layout: Layout,
        path: tuple[str, ...],
        present: _Presence,
        leaves: list[Leaf],
    ) -> list[str]:
        """Columns of an object's attributes; the names of all columns below it."""
        below: list[str] = []
        by_attribute: dict[str, list[str]] = {}
        for name, value in node.attributes:
            attribute = shape.get(name)
            if attribute is None or name not in layout or (not path and name == UNMAPPED):
                continue
            at = (*path, name)
            if attribute.scalar == "object" and attribute.shape is not None:
                objects = _as_objects(value, attribute)
                if attribute.is_array:
                    columns = [self._list_of_objects(objects, attribute, layout[name][0], at, present, leaves)]
                else:
                    inner = self._presence(objects, attribute, present)
                    columns = self._object(objects, attribute.shape, layout[name], at, inner, leaves)
            elif isinstance(value, ObjectOf):
                continue  # `_layout` has said so
            else:
                columns = [self._leaf(value, attribute, at, present, leaves)]
            by_attribute[name] = columns
            below += columns
        exists = self._any_of(below)
        for name in shape.required:
            columns = by_attribute.get(name, [])
            there = self._any_of(columns)
            at_name = ".".join((*path, name))
            if there == "true":
                continue
            self.checks.append(
                (
                    f"{exists} AND NOT {there}" if exists != "true" else f"NOT {there}",
                    f"{at_name}: required by {shape.name} in OCSF {self.version}, found none",
                )
            )
        for names, said, test in self._choices(shape, by_attribute):
            at_name = ".".join((*path, " or ".join(names)))
            self.checks.append(
                (f"{exists} AND NOT ({test})", f"{at_name}: {said} by {shape.name} in OCSF {self.version}")
            )
        return below

    def _choices(self, shape: Shape, columns: Mapping[str, list[str]]) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """What a shape asks of several attributes together: their names, what it asks, SQL that is true where that holds."""
        there = {name: self._any_of(columns.get(name, [])) for name in (*shape.at_least_one, *shape.just_one)}
        if shape.at_least_one:
            tests = [there[name] for name in shape.at_least_one]
            if "true" not in tests:
                yield shape.at_least_one, "at least one is required", " OR ".join(tests)
        if shape.just_one:
            counted = " + ".join(f"CASE WHEN {there[name]} THEN 1 ELSE 0 END" for name in shape.just_one)
            yield shape.just_one, "just one is required", f"{counted} = 1"

    def _any_of(self, names: Sequence[str]) -> str:
        """SQL that is true where one of these columns has a value."""
        columns = {column.name: column for column in self.columns}
        if any(columns[name].always for name in names):
            return "true"
        return "(" + " OR ".join(f"{name} IS NOT NULL" for name in names) + ")" if names else "false"

    def _presence(self, node: ObjectOf, attribute: Attribute, outer: _Presence) -> _Presence:
        """Whether an object stays: one that must be there, or is made of literals, does so with what it is in."""
        return outer if attribute.required or is_constant(node) else _Presence(outer)

    def _leaf(
        self, value: Expression, attribute: Attribute, path: tuple[str, ...], present: _Presence, leaves: list[Leaf]
    ) -> str:
        """One column; its name."""
        name = f"v{len(self.columns)}"
        at = ".".join(path)
        kind = attribute.scalar
        constant = is_constant(value)
        text: str | None = None
        sql = self.sql
        checked = not constant and not isinstance(value, _Computed)
        if attribute.is_array:
            typed, text = self._array(value, attribute, at)
        elif constant:
            typed = self._constant(value, attribute, at)
        elif _split_of(value) is not None:
            self.broken.append(f"{at}: expected a single value, found a $split list")
            typed = sql.null(sql.types[kind])
        elif isinstance(value, _Computed):
            activity = sql.typed(self.compiler.text(value.of), "int64")
            typed = f"({value.uid} * 100 + {activity})"
        elif isinstance(value, Enum) and is_constant(value.other) and kind not in ("ms", "text", "json"):
            typed = self._table(value, attribute, at)
            checked = False  # each of its values was, just now
        else:
            text = self.compiler.text(value)
            if kind in ("text", "json"):
                typed = text
                if _has_base(value):
                    wrong = f"{sql.left(f'{name}t', len(NOT_HEXADECIMAL))} = {sql.text(NOT_HEXADECIMAL)}"
                    typed = f"CASE WHEN {wrong} THEN NULL ELSE {name}t END"
                else:
                    text = None
                if path == ("metadata", "version"):
                    typed = f"regexp_replace({typed}, '^v', '')"
            elif kind == "ms":
                typed = self.compiler.milliseconds(value)
            else:
                typed = sql.typed(f"{name}t", kind)
        self.columns.append(
            _Column(
                name,
                attribute,
                at,
                text,
                typed,
                constant,
                attribute.is_array,
                checked,
                constant and present.always and not typed.startswith("CAST(NULL"),
                present if constant and not present.always else None,
            )
        )
        if not constant:
            present.add(name)
        leaves.append(Leaf(path, name, kind, attribute.is_array))
        return name

    def _constant(self, value: Expression, attribute: Attribute, at: str) -> str:
        raw = value.value if isinstance(value, Literal) else None
        if raw is None:
            return self.sql.null(self.sql.types[attribute.scalar])
        if at == "metadata.version":
            raw = str(raw).removeprefix("v")
        try:
            typed = _typed(raw, attribute)
            _validate(typed, attribute)
        except ValueError as error:
            self.broken.append(f"{at}: {error}")
            return self.sql.null(self.sql.types[attribute.scalar])
        return self.sql.literal(typed, attribute.scalar)

    def _table(self, value: Enum, attribute: Attribute, at: str) -> str:
        asked = self.compiler.text(value.evaluate)
        other = self._constant(value.other or Literal(None), attribute, at)
        if not value.values:
            return other
        cases = " ".join(
            f"WHEN {self.sql.text(key)} THEN {self._constant(Literal(one), attribute, at)}" for key, one in value.values
        )
        return f"CASE {asked} {cases} ELSE {other} END"

    def _array(self, value: Expression, attribute: Attribute, at: str) -> tuple[str, str | None]:
        """SQL of a list of scalars, and of the text whose items it must all have."""
        sql = self.sql
        kind = attribute.scalar
        item_type = sql.types[kind]
        if isinstance(value, Literal):
            raw = value.value
            value = ListOf(tuple(Literal(part.strip()) for part in str(raw).split(",") if part.strip()))
        if isinstance(value, ListOf):
            items = [
                self._constant(item, attribute, at) if is_constant(item) else sql.typed(self.compiler.text(item), kind)
                for item in value.items
            ]
            if not items:
                return sql.null(sql.list_type(item_type)), None
            texts = [self.compiler.text(item) for item in value.items if not is_constant(item)]
            counted = (
                sql.count(sql.list_of(texts, sql.types["text"])) if texts and kind not in ("text", "json") else None
            )
            if counted is not None:
                constants = sum(is_constant(item) for item in value.items)
                return sql.list_of(items, item_type), f"coalesce({counted}, 0) + {constants}"
            return sql.list_of(items, item_type), None
        parts = _split_of(value)
        texts_sql = (
            sql.none_if_empty(sql.split(self.compiler.text(value), parts))
            if parts is not None
            else sql.items(self.compiler.text(value))
        )
        if kind in ("text", "json"):
            return sql.none_if_empty(texts_sql), None
        typed = sql.each(texts_sql, lambda item: sql.typed(item, kind))
        return sql.none_if_empty(sql.with_value(typed)), sql.count(texts_sql)

    def _list_of_objects(
        self,
        items: ListOf,
        attribute: Attribute,
        layout: Layout,
        path: tuple[str, ...],
        present: _Presence,
        leaves: list[Leaf],
    ) -> str:
        """One column: a list of structs, each made of columns of its own."""
        sql = self.sql
        built: list[str] = []
        fields = _fields(layout, sql)
        shape = self.ocsf.shape_of(attribute.type_name)
        for item in items.items:
            own: list[Leaf] = []
            inner = present if is_constant(item) else _Presence(present)
            columns = self._object(cast("ObjectOf", item), shape, layout, path, inner, own)
            by_path = {leaf.path[len(path) :]: leaf.column for leaf in own}
            built.append(f"CASE WHEN {self._any_of(columns)} THEN {_struct(layout, by_path, (), sql)} END")
        name = f"v{len(self.columns)}"
        typed = (
            sql.list_of(built, sql.struct_type(fields)) if built else sql.null(sql.list_type(sql.struct_type(fields)))
        )
        whole = Attribute(attribute.name, attribute.type_name, "object", True, attribute.required)
        self.columns.append(_Column(name, whole, ".".join(path), None, typed, False, True, False))
        leaves.append(Leaf(path, name, "object", True, tuple(layout.items())))
        return name

    # --- what is left over -----------------------------------------------------------------------------------------------------------

    def find_levels(self) -> None:
        """Which objects of the record this kind reads, and what of each."""
        compiler = self.compiler
        reads = _Reads()
        everything = [*paths(self.root), *paths(compiler.mapping.matched), *compiler.extra]
        if compiler.mapping.time_path is not None:
            everything.append(compiler.mapping.time_path)
        picks: dict[str, set[str]] = {}
        for path in everything:
            if path.document == RECORD and not path.steps:
                continue
            name, steps = compiler.home(path)
            keys = _until_index(steps)
            if name in compiler.named:
                picks.setdefault(name, set()).add(keys[0])
            elif name != RECORD:
                reads.enter(RECORD, _nested_steps(name))
                reads.take(name, keys)
            elif len(keys) == len(steps):
                reads.take(RECORD, keys)
            else:  # an array of which one item is read is kept, for its others
                reads.enter(RECORD, keys[:-1])
        for name in picks:
            for candidate in compiler.named[name].candidates:
                reads.enter(RECORD, _keys(candidate, name)[:-1])
        self.levels = tuple(
            self._level(name, steps, taken, entered)
            for (name, steps), (taken, entered) in reads.levels.items()
            if name != RECORD or steps not in compiler.nested  # a text's own document is the level
        )
        for name, fields in picks.items():
            document = compiler.docs[name]
            if () not in document.levels:
                document.levels.append(())
            self.picks += (_Pick(name, document.text, frozenset(fields)),)

    def _level(self, name: str, steps: tuple[str, ...], taken: set[str], entered: set[str]) -> _Level:
        compiler = self.compiler
        document = compiler.docs[name]
        if steps not in document.levels:
            document.levels.append(steps)
        inner = frozenset(entered - taken)
        nested = {
            key: compiler.docs[_nested_name((*steps, key))].text for key in inner if (*steps, key) in compiler.nested
        }
        return _Level(
            document=name,
            text=document.text,
            steps=steps,
            read=frozenset(taken),
            entered=inner,
            nested=nested,
            index=document.levels.index(steps),
            prefix=_prefix_of(name, steps),
            lines=name in compiler.lines,
        )

    def _rest(self) -> str:
        """SQL of the entries that nothing reads."""
        sql, compiler = self.sql, self.compiler
        parts: list[str] = []
        for level in self.levels:
            prefix = level.prefix
            tests = self._unclaimed(level)
            entries = sql.keep(sql.members(level.text, level.steps), _every(tests))
            parts.append(sql.rename(entries, prefix))
            for key in sorted(level.entered):
                whole = sql.entries([(f"{prefix}{key}", sql.text_at(level.text, (*level.steps, key)))])
                if key in level.nested:
                    kept = f"{level.nested[key]} IS NULL"
                else:
                    index = compiler.docs[level.document].levels.index((*level.steps, key))
                    kept = f"{sql.count(sql.level(f'{level.text}_keys', index))} = 0"
                chosen = "".join(f" AND NOT {test}" for test in self._picked(level, key))
                parts.append(f"CASE WHEN {kept}{chosen} THEN {whole} END")
        for pick in self.picks:
            text = compiler.docs[pick.document].text
            for place, candidate in enumerate(compiler.named[pick.document].candidates):
                steps = tuple(str(step) for step in candidate.steps)
                if not steps:
                    continue
                kept = sql.keep(sql.members(text, ()), self._is_none_of(pick.read))
                renamed = sql.rename(kept, ".".join(steps) + ".")
                parts.append(f"CASE WHEN {text}_pick = {place} THEN {renamed} END")
        return sql.join(parts)

    def _picked(self, level: _Level, key: str) -> list[str]:
        """Tests that are true where a document that reads ``key`` is the level itself."""
        return [
            f"(coalesce({pick.text}_pick, -1) = {place})"
            for pick in self.picks
            if level.document == RECORD and key in pick.read
            for place, candidate in enumerate(self.compiler.named[pick.document].candidates)
            if tuple(candidate.steps) == level.steps
        ]

    def _unclaimed(self, level: _Level) -> list[Callable[[str], str]]:
        """Tests that are true of a key of a level that nothing reads."""
        taken = sorted(level.read | level.entered)
        tests = [self._is_none_of(taken)] if taken else []
        if level.document != RECORD:
            return tests
        for pick in self.picks:
            for place, candidate in enumerate(self.compiler.named[pick.document].candidates):
                steps = tuple(str(step) for step in candidate.steps)
                if steps == level.steps:
                    claimed = sorted(pick.read - set(taken))
                elif steps and steps[:-1] == level.steps and steps[-1] not in taken:
                    claimed = [steps[-1]]
                else:
                    continue
                if claimed:
                    chosen = f"coalesce({pick.text}_pick, -1) = {place}"
                    tests.append(self._is_none_of(claimed, chosen))
        return tests

    def _is_none_of(self, keys: Iterable[str], where: str = "true") -> Callable[[str], str]:
        """SQL that is true of a key that is none of these, or where ``where`` is not true."""
        names = sorted(keys)
        return lambda key: f"NOT ({where} AND {self.sql.one_of(key, names)})" if names else "true"

    def _explicit(self) -> list[tuple[str, str]]:
        node = dict(self.root.attributes).get(UNMAPPED)
        pairs: list[tuple[str, str]] = []

        def flatten(value: Expression, prefix: str) -> None:
            if isinstance(value, ObjectOf):
                for name, inner in value.attributes:
                    flatten(inner, f"{prefix}.{name}" if prefix else name)
            elif isinstance(value, ListOf):
                raise MappingError(
                    f"ocsf_mapping.{self.kind.value}: unmapped.{prefix}: expected a single value, found a list"
                )
            else:
                pairs.append((prefix, self.compiler.text(value)))

        if isinstance(node, ObjectOf):
            flatten(node, "")
        elif node is not None:
            self.broken.append("unmapped: expected an object, found a single value")
        return pairs

    # --- the select ------------------------------------------------------------------------------------------------------------------

    def finish(self) -> KindPlan:
        """The select, once every kind of the source is known."""
        sql, rules = self.sql, self.compiler.rules
        explicit = self.explicit
        texts = [
            f"{column.text} AS {column.name}t"
            for column in self.columns
            if column.text is not None and not column.is_list
        ]
        simple: list[str] = []
        late: list[str] = []
        composed: list[str] = []
        for column in self.columns:
            if column.present is not None:
                late.append(f"CASE WHEN {column.present.sql()} THEN {column.typed} END AS {column.name}")
                continue
            where = composed if column.attribute.scalar == "object" else simple
            where.append(f"{column.typed} AS {column.name}")
            if column.is_list and column.text is not None:
                simple.append(f"{column.text} AS {column.name}t")
        problem = self._problem(rules)
        outputs = ", ".join(f"{leaf.column}" for leaf in self.leaves)

        def select(rest: bool) -> tuple[str, int]:
            fields = [f"{text} AS {name}" for text, name in self.fields.items()]
            inner = f"SELECT *{_and(fields)} FROM chosen"
            inner = f"SELECT *{_and(texts)} FROM ({inner}) s"
            inner = f"SELECT *{_and(simple)} FROM ({inner}) s"
            if late:
                inner = f"SELECT *{_and(late)} FROM ({inner}) s"
            if composed:
                inner = f"SELECT *{_and(composed)} FROM ({inner}) s"
            entries = sql.entries(explicit)
            if rest:
                left = self._rest()
                inner = f"SELECT *, {entries} AS explicit FROM ({inner}) s"
                inner = f"SELECT *, {sql.join(['explicit', left])} AS entries FROM ({inner}) s"
                unmapped = sql.map_of("entries")
                told = f"{unmapped} AS unmapped, "
            else:
                told = "".join(f"{text} AS u{place}, " for place, (_, text) in enumerate(explicit))
            head = f"SELECT n, {problem} AS problem, account, region, {told}"
            return f"{head}{outputs} FROM ({inner}) s", len(head)

        plain, rest_at = select(False)
        return KindPlan(
            self.kind.value,
            self.ocsf.name,
            tuple(self.leaves),
            plain,
            rest_at,
            select(rules.keep_unmapped)[0],
            tuple(dict.fromkeys(self.broken)),
            tuple(key for key, _ in explicit),
            tuple((str(path), self.compiler.path_text(path)) for path in dict.fromkeys(paths(self.root)) if path.steps),
            self.levels,
            self.picks,
        )

    def _problem(self, rules: SourceRules) -> str:
        """SQL of the first thing that is wrong with an event: ``code|detail``; none where all is right."""
        sql = self.sql
        cases: list[tuple[str, str]] = []
        if self.broken:
            return sql.text(f"invalid|{self.broken[0]}")
        times = [leaf.column for leaf in self.leaves if leaf.path == ("time",)]
        if times:
            [time] = times
            [column] = [one for one in self.columns if one.name == time]
            raw = f"{time}t" if column.text is not None else time
            cases.append((f"{raw} IS NULL", sql.text("no_time|time: expected the time of the event, found none")))
            said = f"time_out_of_range|time: expected one from {_day(rules.earliest)} to before {_day(rules.latest)}, found "
            cases.append(
                (
                    f"{time} < {rules.earliest} OR {time} >= {rules.latest}",
                    f"{sql.text(said)} || {sql.left(raw if column.text is not None else sql.as_text(time), FOUND_CHARACTERS)}",
                )
            )
        else:
            cases.append(("true", sql.text("no_time|time: the mapping gives none")))
        for column in self.columns:
            if column.text is None:
                continue
            found = f"{column.name}t"
            said = f"bad_value|{column.path}: expected {column.attribute.type_name}, found "
            if column.is_list:
                cases.append(
                    (
                        f"coalesce({found}, 0) <> coalesce({sql.count(column.name)}, 0)",
                        sql.text(said + "another text in the list"),
                    )
                )
            else:
                cases.append(
                    (
                        f"{found} IS NOT NULL AND {column.name} IS NULL",
                        f"{sql.text(said)} || {sql.left(found, FOUND_CHARACTERS)}",
                    )
                )
        for column in self.columns:
            if column.checked:
                cases += self._rules(column)
        cases += [(test, sql.text(f"invalid|{said}")) for test, said in self.checks]
        cases += self._place_cases("account", ACCOUNT, "12 digits or external", rules.account)
        cases += self._place_cases("region", REGION, "the name of an AWS region", rules.region)
        branches = " ".join(f"WHEN {test} THEN {said}" for test, said in cases)
        return f"CASE {branches} END"

    def _place_cases(self, name: str, pattern: str, said: str, path: str | None) -> list[tuple[str, str]]:
        """Whether an event's account or region may stand in a path of the lake. Those of objects' keys are checked once an object."""
        sql = self.sql
        found = f"coalesce({sql.left(name, FOUND_CHARACTERS)}, 'none')"
        # One that the object's key tells was checked already: it is empty where it can't stand there.
        test = f"({name} IS NULL OR NOT {sql.is_all(name, pattern)})" if path else f"({name} IS NULL OR {name} = '')"
        return [(test, f"{sql.text(f'no_account|{name}: expected {said}, found ')} || {found}")]

    def _rules(self, column: _Column) -> Iterator[tuple[str, str]]:
        """The JSON schema's rules of one column."""
        sql, attribute = self.sql, column.attribute
        tests: list[tuple[Any, str]] = []
        if attribute.enum:
            if attribute.scalar in ("text", "json"):
                tests.append(
                    (
                        lambda v: f"NOT {sql.one_of(v, [str(one) for one in attribute.enum])}",
                        f"one of {_few(attribute.enum)}",
                    )
                )
            else:
                allowed = ", ".join(str(one) for one in attribute.enum)
                tests.append((lambda v: f"{v} NOT IN ({allowed})", f"one of {_few(attribute.enum)}"))
        if attribute.pattern is not None:
            tests.append(
                (lambda v: f"NOT {_pattern(v, attribute, sql)}", f"{attribute.type_name} as its pattern has it")
            )
        if attribute.longest is not None:
            longest = attribute.longest
            guard = f"bytes > {_WHOLE} AND " if longest > _WHOLE else ""
            tests.append((lambda v: f"{guard}{sql.length(v)} > {longest}", f"at most {longest} characters"))
        if attribute.least is not None and attribute.most is not None:
            least, most = attribute.least, attribute.most
            tests.append((lambda v: f"({v} < {least} OR {v} > {most})", f"{least} to {most}"))
        for test, said in tests:
            what = sql.text(f"invalid|{column.path}: expected {said}, found ")
            if column.is_list:
                yield (
                    sql.any_item(column.name, test),
                    f"{what} || {sql.left(sql.as_text(column.name), FOUND_CHARACTERS)}",
                )
            else:
                yield test(column.name), f"{what} || {sql.left(sql.as_text(column.name), FOUND_CHARACTERS)}"


@dataclass(frozen=True)
class _Computed:
    """``type_uid``, where the activity is no table of the mapping."""

    name: str
    of: Expression
    uid: int


def _pattern(value: str, attribute: Attribute, sql: Dialect) -> str:
    pattern = attribute.pattern or ""
    if attribute.type_name == "ip_t":  # the schema's own pattern is long; most addresses are plain IPv4
        plain = sql.is_all(
            value, r"((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
        )
        return f"CASE WHEN {plain} THEN true ELSE {sql.matches(value, pattern)} END"
    return sql.matches(value, pattern)


# --- small things --------------------------------------------------------------------------------------------------------------------


def _and(columns: Iterable[str]) -> str:
    return "".join(f", {column}" for column in columns)


def _every(tests: Sequence[Callable[[str], str]]) -> Callable[[str], str]:
    return lambda key: " AND ".join(test(key) for test in tests) or "true"


def _nested_name(steps: Sequence[Step]) -> str:
    return "nested:" + "\0".join(str(step) for step in steps)


def _keys(path: Path, where: str) -> tuple[str, ...]:
    if any(isinstance(step, int) for step in path.steps):
        raise MappingError(f"{where}: expected a path of keys, found an index in {path}")
    return tuple(str(step) for step in path.steps)


def _until_index(steps: tuple[Step, ...]) -> tuple[str, ...]:
    keys: list[str] = []
    for step in steps:
        if isinstance(step, int):
            break
        keys.append(step)
    return tuple(keys)


def _nested_steps(name: str) -> tuple[str, ...]:
    return tuple(name.removeprefix("nested:").split("\0"))


def _prefix_of(document: str, steps: Sequence[str]) -> str:
    nested = _nested_steps(document) if document != RECORD else ()
    return "".join(f"{step}." for step in (*nested, *steps))


def fits(tree: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether a path can be added to a struct: names of its fields are told apart without case, and a leaf is no struct."""
    node: Any = tree
    for place, key in enumerate(keys):
        if node is None:
            return False
        if key in node:
            node = node[key]
            if place == len(keys) - 1:
                return False  # it is there as a struct
            continue
        return all(other.casefold() != key.casefold() for other in node)
    return False


def _text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(raw: Any, attribute: Attribute) -> Any:
    text = _text_of(raw).strip()
    kind = attribute.scalar
    if kind in ("text", "json"):
        return _text_of(raw)
    if kind in ("int32", "int64", "ms") and re.fullmatch(r"[+-]?[0-9]+(\.0+)?", text):
        number = int(text.split(".")[0])
        if abs(number) < 2 ** (31 if kind == "int32" else 63):
            return number
    if kind == "bool" and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if kind == "double":
        try:
            return float(text)
        except ValueError:
            pass
    raise ValueError(f"expected {attribute.type_name}, found {raw!r}")


def _validate(value: Any, attribute: Attribute) -> None:
    if attribute.enum and value not in attribute.enum:
        raise ValueError(f"expected one of {_few(attribute.enum)}, found {value!r}")
    if attribute.pattern is not None and not re.search(attribute.pattern, str(value)):
        raise ValueError(f"expected {attribute.type_name} as its pattern has it, found {value!r}")
    if attribute.longest is not None and len(str(value)) > attribute.longest:
        raise ValueError(f"expected at most {attribute.longest} characters, found {len(str(value))}")
    if attribute.least is not None and attribute.most is not None and not attribute.least <= value <= attribute.most:
        raise ValueError(f"expected {attribute.least} to {attribute.most}, found {value!r}")


def _profiles(root: ObjectOf) -> tuple[str, ...]:
    metadata = dict(root.attributes).get("metadata")
    value = dict(metadata.attributes).get("profiles") if isinstance(metadata, ObjectOf) else None
    items = value.items if isinstance(value, ListOf) else (value,)
    return tuple(
        part.strip()
        for item in items
        if isinstance(item, Literal)
        for part in str(item.value).split(",")
        if part.strip()
    )


def _as_objects(value: Expression, attribute: Attribute) -> Any:
    """An object, or for an array a list of objects, of whatever the mapping gives; none where it can't be one.

    A single value becomes the object's ``name``: so the AWS library's files say which process, which user.
    """
    if attribute.is_array:
        items = value.items if isinstance(value, ListOf) else (value,)
        single = Attribute(**{**attribute.__dict__, "is_array": False})
        objects = [_as_objects(item, single) for item in items]
        return None if any(item is None for item in objects) else ListOf(tuple(objects))
    if isinstance(value, ObjectOf):
        return value
    if isinstance(value, If) and any(isinstance(one, ObjectOf) for one in (value.then, value.otherwise)):
        both = [
            _conditional(value.condition, value.then),
            _conditional(Condition("not", parts=(value.condition,)), value.otherwise),
        ]
        objects = [one for one in both if isinstance(one, ObjectOf)]
        return objects[0] if len(objects) == 1 and (value.then is None or value.otherwise is None) else None
    if isinstance(value, ListOf) or attribute.shape is None or attribute.shape.get("name") is None:
        return None
    return ObjectOf((("name", value),))


def _conditional(condition: Condition, value: Expression | None) -> Expression | None:
    """A value, of which each part is there only where a condition holds."""
    if isinstance(value, ObjectOf):
        parts = ((name, _conditional(condition, inner)) for name, inner in value.attributes)
        return ObjectOf(tuple((name, inner) for name, inner in parts if inner is not None))
    if isinstance(value, ListOf):
        return ListOf(tuple(inner for item in value.items if (inner := _conditional(condition, item)) is not None))
    return None if value is None else If(condition, value, None)


def _has_base(expression: Expression | None) -> bool:
    match expression:
        case Change():
            return expression.how == "base" or _has_base(expression.of)
        case First(options=parts) | Concat(parts=parts):
            return any(_has_base(part) for part in parts)
        case If():
            return _has_base(expression.then) or _has_base(expression.otherwise)
    return False


def _split_of(value: Expression) -> str | None:
    while isinstance(value, Change):
        if value.how == "split":
            return str(value.by)
        value = value.of
    return None


def _fields(layout: Layout, sql: Dialect) -> list[tuple[str, str]]:
    return [(name, type_of(kind, sql)) for name, kind in layout.items()]


def type_of(kind: Any, sql: Dialect) -> str:
    """The SQL type of a layout's entry."""
    if isinstance(kind, list):
        return sql.list_type(type_of(kind[0], sql))
    return sql.struct_type(_fields(kind, sql)) if isinstance(kind, dict) else sql.types[kind]


def _struct(layout: Layout, columns: Mapping[tuple[str, ...], str], path: tuple[str, ...], sql: Dialect) -> str:
    fields = []
    for name, kind in layout.items():
        at = (*path, name)
        if at in columns:
            fields.append((name, columns[at]))
        elif isinstance(kind, dict):
            below = [column for place, column in columns.items() if place[: len(at)] == at]
            struct = _struct(kind, columns, at, sql)
            there = " OR ".join(f"{column} IS NOT NULL" for column in below)
            fields.append((name, f"CASE WHEN {there} THEN {struct} END" if below else sql.null(type_of(kind, sql))))
        else:
            fields.append((name, sql.null(type_of(kind, sql))))
    return sql.struct(fields)


def _merge_layout(into: Layout, layout: Layout, class_name: str) -> None:
    for name, kind in layout.items():
        if name not in into:
            into[name] = _copy(kind)
        elif isinstance(kind, dict):
            _merge_layout(into[name], kind, class_name)
        elif isinstance(kind, list) and isinstance(kind[0], dict):
            _merge_layout(into[name][0], kind[0], class_name)
        elif into[name] != kind:
            raise MappingError(
                f"{class_name}.{name}: expected one type in all kinds, found {into[name]} and {kind}; "
                "they are of two OCSF versions that don't agree"
            )


def _copy(kind: Any) -> Any:
    if isinstance(kind, dict):
        return {name: _copy(below) for name, below in kind.items()}
    return [_copy(kind[0])] if isinstance(kind, list) else kind


def _day(milliseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)).strftime("%Y-%m-%d")


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:12])
    return shown + (f" … ({len(values)})" if len(values) > 12 else "")
