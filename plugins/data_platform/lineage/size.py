"""Makes an event fit the catalog's limit: leaves out facets in a stated order, and says so inside the event.

PostLineageEvent takes 300,000 bytes (https://docs.aws.amazon.com/datazone/latest/APIReference/API_PostLineageEvent.html). What a
lineage graph is made of is never left out: job, run, parent, event type and time, the names of inputs and outputs. The rest goes in
the order of `STEPS`, what a reader of the catalog misses least first, and no more of it than needed. The spool keeps the whole event.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from data_platform.lineage.events import to_bytes
from data_platform.lineage.exceptions import EventTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES: Final = 300_000
TRIMMED: Final = "dataPlatformTrimmed"
"""The run facet that names what was left out."""
_RUN_FACET: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"

type Event = dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """An event that fits.

    Attributes:
        body: what is sent.
        trimmed: what was left out, in the words of `STEPS`; empty for an untouched event.
    """

    body: bytes
    trimmed: tuple[str, ...] = ()


def fit(event: Event, limit: int = MAX_BYTES) -> Fitted:
    """``event`` as JSON of at most ``limit`` bytes.

    Raises:
        EventTooLarge: it doesn't fit even with everything left out that may be.
    """
    body = to_bytes(event)
    if len(body) <= limit:
        return Fitted(body)
    whole, event, trimmed = len(body), copy.deepcopy(event), list[str]()
    for name, remove in STEPS:
        if not remove(event):
            continue
        trimmed.append(name)
        _note(event, trimmed, whole)
        body = to_bytes(event)
        if len(body) <= limit:
            return Fitted(body, tuple(trimmed))
    raise EventTooLarge(
        f"expected at most {limit} bytes, found {len(body)} of {whole} after leaving out {', '.join(trimmed) or 'nothing'}; "
        "split the job: it has too many inputs and outputs for one event"
    )


def _note(event: Event, trimmed: list[str], whole: int) -> None:
    facets = event.setdefault("run", {}).setdefault("facets", {})
    facets[TRIMMED] = {
        "_producer": event.get("producer", ""),
        "_schemaURL": _RUN_FACET,
        "trimmed": list(trimmed),
        "bytes": whole,
    }


def _datasets(event: Event) -> Iterator[Event]:
    for side in ("inputs", "outputs"):
        yield from event.get(side) or ()


def _facets(event: Event, where: str) -> Iterator[dict[str, Any]]:
    if where == "dataset":
        for dataset in _datasets(event):
            for kind in ("facets", "inputFacets", "outputFacets"):
                yield dataset.get(kind) or {}
    else:
        yield (event.get(where) or {}).get("facets") or {}


def _drop(where: str, *names: str) -> Callable[[Event], bool]:
    """Removes these facets."""

    def remove(event: Event) -> bool:
        found = False
        for facets in _facets(event, where):
            for name in names:
                found = facets.pop(name, None) is not None or found
        return found

    return remove


def _drop_all_but(where: str, *kept: str) -> Callable[[Event], bool]:
    """Removes every facet but these."""

    def remove(event: Event) -> bool:
        found = False
        for facets in _facets(event, where):
            for name in [name for name in facets if name not in kept]:
                del facets[name]
                found = True
        return found

    return remove


def _drop_keys(facet: str, *keys: str) -> Callable[[Event], bool]:
    """Removes these keys anywhere inside one kind of dataset facet."""

    def remove(event: Event) -> bool:
        found = [_strip(facets.get(facet), keys) for facets in _facets(event, "dataset")]
        return any(found)

    return remove


def _strip(node: Any, keys: tuple[str, ...]) -> bool:
    if isinstance(node, list):
        return sum(_strip(item, keys) for item in node) > 0  # each is stripped: any() would stop at the first
    if not isinstance(node, dict):
        return False
    found = [node.pop(key, None) is not None for key in keys]
    return any([*found, *[_strip(value, keys) for value in node.values()]])


def _drop_indirect(event: Event) -> bool:
    found = [
        (facets.get("columnLineage") or {}).pop("dataset", None) is not None for facets in _facets(event, "dataset")
    ]
    return any(found)


STEPS: Final[tuple[tuple[str, Callable[[Event], bool]], ...]] = (
    ("run: debug and environment", _drop("run", "debug", "airflowDebug", "environmentVariables")),
    ("run: Airflow's details", _drop("run", "airflow", "airflowDagRun", "airflowState", "airflow_mappedTask")),
    ("run: unknown source attributes", _drop("run", "unknownSourceAttribute")),
    ("job: source code and SQL", _drop("job", "sourceCode", "sql")),
    ("run: error message and external query", _drop("run", "errorMessage", "externalQuery", "extractionError")),
    ("job: Airflow's details", _drop("job", "airflow")),
    ("documentation", lambda event: _drop("job", "documentation")(event) | _drop("dataset", "documentation")(event)),
    (
        "data quality and statistics",
        _drop(
            "dataset",
            "dataQualityMetrics",
            "dataQualityAssertions",
            "inputStatistics",
            "outputStatistics",
            "columnMetrics",
        ),
    ),
    ("schema: descriptions", _drop_keys("schema", "description")),
    ("run: all but the parent", _drop_all_but("run", "parent", TRIMMED)),
    ("job: all facets", _drop_all_but("job")),
    (
        "column lineage: transformations",
        _drop_keys("columnLineage", "transformations", "transformationDescription", "transformationType"),
    ),
    ("column lineage: of the whole dataset", _drop_indirect),
    (
        "dataset: all but schema, column lineage and symlinks",
        _drop_all_but("dataset", "schema", "columnLineage", "symlinks"),
    ),
    ("schema", _drop("dataset", "schema")),
    ("column lineage", _drop("dataset", "columnLineage")),
    ("dataset: symlinks", _drop("dataset", "symlinks")),
)
"""What is left out, in this order, and how."""
