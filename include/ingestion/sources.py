"""A source: a folder with ``source.yaml``, which says whose log it is, how its objects are read and what is expected of it.

``include/ingestion/sources/<name>/{source.yaml,mapping.json,samples/}``. Airflow's environment and the warehouse's both read it, so it
needs pydantic and PyYAML only.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from include.ingestion.reading import CsvSpec, Format, ReadSpec, check_encoding, record_path
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SOURCES_DIR: Final = PROJECT_ROOT / "include" / "ingestion" / "sources"
SOURCE_FILE: Final = "source.yaml"
MAPPING_FILE: Final = "mapping.json"
GROUPS: Final = ("account", "region")
"""What the pattern of an object's key may name."""


class SourceError(ValueError):
    """A source can't be used; the message names the file and the field."""


class SourceInvalid(SourceError):
    """Its files are not what they should be."""


class SourceUnknown(SourceError):
    """There is no such source."""


class KeyAmbiguous(SourceError):
    """An object's key is of more than one source."""


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"expected a regular expression, found {text!r} ({error})") from error
    if wrong := sorted(set(groups) - set(GROUPS)):
        raise ValueError(f"expected the named groups {' and '.join(GROUPS)} only, found {', '.join(wrong)}")
    return text


def _event_path(text: str) -> str:
    if not text.startswith(("$.", "$[")) or len(text) < 3:
        raise ValueError(f"expected a path such as $.event.src_ip, found {text!r}")
    return text


def _record_path(text: str) -> str:
    record_path(text)
    return text


def _encoding(text: str) -> str:
    check_encoding(text)
    return text


type KeyPattern = Annotated[str, AfterValidator(_pattern)]
type EventPath = Annotated[str, AfterValidator(_event_path)]
type Positive = Annotated[int, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectPattern(_Part):
    """Which objects are the source's.

    Attributes:
        key: regular expression that the whole key matches; it may name ``account`` and ``region``.
        examples: keys that match it, and no other source's; `check_sources` holds that.
    """

    key: KeyPattern
    examples: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _examples_match(self) -> Self:
        for example in self.examples:
            if not re.fullmatch(self.key, example):
                raise ValueError(f"expected examples that match key, found {example!r}")
        return self


class Csv(_Part):
    """How rows of text are read; see `include.ingestion.reading.CsvSpec`."""

    delimiter: str = ","
    quote: str | None = '"'
    columns: tuple[str, ...] | None = None
    header: bool = False

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.header and self.columns is None:
            raise ValueError(
                "expected columns beside header: a row that was set aside comes back without its header; name them"
            )
        self.spec()
        return self

    def spec(self) -> CsvSpec:
        """As the reader wants it."""
        return CsvSpec(delimiter=self.delimiter, quote=self.quote, columns=self.columns, header=self.header)


class AccountRule(_Part):
    """Whose event it is: the first that gives an account.

    Attributes:
        key: the group ``account`` of the object's key.
        path: a field of the event.
        default: what it is else; None sets the event aside.
    """

    key: bool = True
    path: EventPath | None = None
    default: str | None = "external"


class RegionRule(_Part):
    """Where the event is from: the first that gives a region.

    Attributes:
        key: the group ``region`` of the object's key.
        path: a field of the event.
        default: what it is else; None is the lake's own region.
    """

    key: bool = True
    path: EventPath | None = None
    default: str | None = None


class Limits(_Part):
    """What is expected of the source.

    Attributes:
        dead_letter_share: of a batch's records, from 0 to 1; a batch with more set aside is not published.
        max_record_bytes: a longer record is set aside.
        earliest: an event before this day (UTC) is set aside.
        latest: an event from this day (UTC) on is set aside.
    """

    dead_letter_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    max_record_bytes: Positive = 16 << 20
    earliest: date = date(2000, 1, 1)
    latest: date = date(2100, 1, 1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.earliest < date(1970, 1, 1):
            raise ValueError(
                f"expected earliest to be 1970-01-01 or later, found {self.earliest}; OCSF counts from there"
            )
        if self.earliest >= self.latest:
            raise ValueError(f"expected earliest before latest, found {self.earliest} and {self.latest}")
        return self


class Batches(_Part):
    """How objects are grouped.

    Attributes:
        max_objects: of one batch.
        max_mib: of one batch, MiB as the objects are stored.
        wait_seconds: how long an object waits at most for others.
        spark_mib: a batch of more MiB is one for a cluster; its task says so.
        pool_slots: batches of this source at a time.
    """

    max_objects: Positive = 500
    max_mib: Positive = 256
    wait_seconds: Annotated[int, Field(ge=0)] = 60
    spark_mib: Positive = 4096
    pool_slots: Positive = 2


class StreamRule(_Part):
    """The Kinesis stream that the source comes by, if it does.

    Attributes:
        name: of the stream.
    """

    name: str | None = None


class Source(_Part):
    """One source; see the attributes of its parts.

    Attributes:
        name: its folder's.
        title: for people.
        owner: the team that answers for it.
        ocsf_version: the OCSF schema that its events get, unless the mapping says another.
        objects: which objects are its.
        format: of an object.
        records_at: of a JSON document: where its array of records is.
        csv: of rows of text.
        encoding: of text, by its Python name.
        nested: fields whose text is a document of its own, and of which kind.
        account_id: whose event it is.
        region: where it is from.
        keep_unmapped: whether what the mapping doesn't read is kept in ``unmapped``.
        limits: what is expected.
        batches: how objects are grouped.
        stream: the stream it comes by.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=48)]
    title: Annotated[str, Field(min_length=1)]
    owner: Annotated[str, Field(min_length=1)]
    ocsf_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    objects: tuple[ObjectPattern, ...] = ()
    format: Format
    records_at: Annotated[str, AfterValidator(_record_path)] | None = None
    csv: Csv | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    nested: dict[EventPath, Literal["json", "lines"]] = Field(default_factory=dict)
    account_id: AccountRule = AccountRule()
    region: RegionRule = RegionRule()
    keep_unmapped: bool = True
    limits: Limits = Limits()
    batches: Batches = Batches()
    stream: StreamRule = StreamRule()

    _folder: Path = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.objects and self.stream.name is None:
            raise ValueError("expected objects or stream.name, found neither; nothing would ever be this source's")
        if self.records_at is not None and self.format is not Format.JSON:
            raise ValueError(f"expected records_at with the format json only, found it with {self.format}")
        if (self.csv is None) is (self.format is Format.CSV):
            raise ValueError(f"expected csv with the format csv, and only then, found the format {self.format}")
        return self

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._folder

    @property
    def mapping_file(self) -> Path:
        """How its events become OCSF."""
        return self._folder / MAPPING_FILE

    @property
    def read_spec(self) -> ReadSpec:
        """How `include.ingestion.reading.read_records` reads its objects."""
        return ReadSpec(
            format=self.format,
            encoding=self.encoding,
            records_at=self.records_at,
            csv=self.csv.spec() if self.csv else None,
            max_record_bytes=self.limits.max_record_bytes,
        )

    def match(self, key: str) -> SourceMatch | None:
        """What the key says, if the object is this source's."""
        for pattern in self.objects:
            if found := re.fullmatch(pattern.key, key):
                groups = found.groupdict()
                return SourceMatch(self, groups.get("account"), groups.get("region"))
        return None


@dataclass(frozen=True)
class SourceMatch:
    """Whose an object is.

    Attributes:
        source: the source.
        account: by the key's group, if it has one.
        region: likewise.
    """

    source: Source
    account: str | None
    region: str | None


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice: the last would win, silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"expected every key once, found {key.value!r} again", key.start_mark
            )
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_source(name: str, root: Path = SOURCES_DIR) -> Source:
    """The source of this name.

    Raises:
        SourceUnknown: there is none.
        SourceInvalid: its ``source.yaml`` is malformed.
    """
    names = source_names(root)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        raise SourceUnknown(
            f"expected a source of {_shown(root)}: {', '.join(names) or 'none'}, found {name!r}"
            f"{f' (did you mean {close[0]}?)' if close else ''}; correct the name, or add {_shown(root / name / SOURCE_FILE)}"
        )
    file = root / name / SOURCE_FILE
    content = _read(file)
    try:
        source = Source.model_validate(content)
    except ValidationError as error:
        raise SourceInvalid(_told(file, error)) from error
    if source.name != name:
        raise SourceInvalid(f"{_shown(file)}, name: expected {name!r}, as the folder is called, found {source.name!r}")
    source._folder = file.parent
    return source


def source_names(root: Path = SOURCES_DIR) -> list[str]:
    """The folders that are sources, by name."""
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir() and folder.name[0] not in "._")


@lru_cache(maxsize=4)
def all_sources(root: Path = SOURCES_DIR) -> tuple[Source, ...]:
    """All sources, by name. They are read once a process.

    Raises:
        SourceInvalid: of any of them.
    """
    return tuple(load_source(name, root) for name in source_names(root))


def match_object(key: str, sources: Iterable[Source] | None = None) -> SourceMatch | None:
    """Whose an object is, by its key as S3 has it (not URL-encoded).

    Args:
        key: of the object.
        sources: to look among; all if None.

    Raises:
        KeyAmbiguous: it is of more than one.
    """
    matches = [found for source in (all_sources() if sources is None else sources) if (found := source.match(key))]
    if len(matches) > 1:
        names = " and ".join(found.source.name for found in matches)
        raise KeyAmbiguous(
            f"expected the key {key[:300]!r} to be of one source, found {names}; make objects.key of one of them narrower"
        )
    return matches[0] if matches else None


def check_sources(sources: Sequence[Source] | None = None) -> list[str]:
    """What is wrong with the sources beside each other: keys that are of several of them; one message each."""
    sources = all_sources() if sources is None else sources
    problems = []
    patterns: dict[str, str] = {}
    for source in sources:
        for at, pattern in enumerate(source.objects):
            place = f"{source.name}/{SOURCE_FILE}, objects.{at}"
            if (other := patterns.setdefault(pattern.key, source.name)) != source.name:
                problems.append(f"{place}.key: expected a pattern of its own, found that of {other}")
            for example in pattern.examples:
                try:
                    match_object(example, sources)
                except KeyAmbiguous as error:
                    problems.append(f"{place}.examples: {error}")
    streams: dict[str, str] = {}
    for source in sources:
        name = source.stream.name
        if name is not None and (other := streams.setdefault(name, source.name)) != source.name:
            problems.append(f"{source.name}/{SOURCE_FILE}, stream.name: expected a stream of its own, found {other}'s")
    return problems


def mapping_digest(source: Source) -> str:
    """SHA-256, in hex, of what decides the source's events: ``source.yaml`` and ``mapping.json``, but for layout, comments and key order.

    Raises:
        SourceInvalid: one of them can't be read.
    """
    try:
        mapping = json.loads(source.mapping_file.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceInvalid(
            f"{_shown(source.mapping_file)}: expected a mapping in JSON, found {error}; write it, or correct it"
        ) from error
    content = {"source": _read(source.folder / SOURCE_FILE), "mapping": mapping}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read(file: Path) -> Any:
    try:
        return yaml.load(file.read_bytes(), Loader=_Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError as error:
        raise SourceInvalid(f"{_shown(file)}: expected the file, found none; write it, or remove the folder") from error
    except (OSError, yaml.YAMLError) as error:
        raise SourceInvalid(f"{_shown(file)}: expected YAML, found {error}") from error


def _told(file: Path, error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "the file"
        found = "" if problem["type"] in {"missing", "value_error"} else f", found {str(problem['input'])[:80]!r}"
        problems.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}{found}")
    return f"{_shown(file)}: {'; '.join(problems)}"


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)
