"""Walks the stand-in's graph through the service's own operations, as a reader of the catalog would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.local.catalog.run_events import COLUMN_LINEAGE

if TYPE_CHECKING:
    from include.local.catalog.protocol import Document


@dataclass(frozen=True)
class ColumnAt:
    """A column of a dataset.

    Attributes:
        dataset: the source identifier of its node.
        column: its name.
    """

    dataset: str
    column: str


@dataclass
class Walker:
    """One walk; nodes are read once.

    Attributes:
        client: boto3's DataZone client.
        domain_id: the domain.
        direct: follow only the inputs that a value is made of, where there are some; what is only counted has none.
    """

    client: Any
    domain_id: str
    direct: bool = False
    _nodes: dict[str, Document] = field(default_factory=dict)

    def node(self, identifier: str) -> Document:
        """A node by its id or its source identifier.

        Raises:
            ClientError: there is none.
        """
        if identifier not in self._nodes:
            self._nodes[identifier] = self.client.get_lineage_node(
                domainIdentifier=self.domain_id, identifier=identifier
            )
        return self._nodes[identifier]

    def upstream(self, identifier: str) -> dict[str, set[str]]:
        """Every dataset upstream of one, with the source identifiers of the datasets that it is made from."""
        found: dict[str, set[str]] = {}
        waiting = [self.node(identifier)]
        while waiting:
            node = waiting.pop()
            runs = [self.node(run["id"]) for run in node.get("upstreamNodes", ())]
            before = [self.node(one["id"]) for run in runs for one in run.get("upstreamNodes", ())]
            found[node["sourceIdentifier"]] = {one["sourceIdentifier"] for one in before}
            waiting += [one for one in before if one["sourceIdentifier"] not in found]
        return found

    def trace(self, dataset: str, column: str) -> list[tuple[ColumnAt, ...]]:
        """Every way from a column to a column that comes from no other, nearest first.

        Args:
            dataset: source identifier of the dataset.
            column: its column.
        """
        return self._trace((ColumnAt(dataset, column),))

    def _trace(self, way: tuple[ColumnAt, ...]) -> list[tuple[ColumnAt, ...]]:
        before = [one for one in self.inputs(way[-1]) if one not in way]
        return [longer for one in before for longer in self._trace((*way, one))] if before else [way]

    def inputs(self, column: ColumnAt) -> list[ColumnAt]:
        """The columns that a column is made from."""
        forms = {form["formName"]: form["content"] for form in self.node(column.dataset).get("formsOutput", ())}
        fields = json.loads(forms.get(COLUMN_LINEAGE, "{}")).get("fields", {})
        inputs = fields.get(column.column, {}).get("inputFields", ())
        made_of = [one for one in inputs if any(how["type"] == "DIRECT" for how in one.get("transformations", ()))]
        found = [
            ColumnAt(one["sourceIdentifier"], one["field"]) for one in (made_of if self.direct and made_of else inputs)
        ]
        return list(dict.fromkeys(found))
