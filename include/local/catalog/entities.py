"""Assets, data products and listings as they are kept: every revision of each, and the search among the latest.

Chosen here, for it is not documented: search finds entities in which every word of the text occurs, in a field that ``searchIn`` names
(``name``, ``RedshiftViewForm.viewName``) or anywhere; filters compare such fields.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from include.local.catalog.identity import CALLER
from include.local.catalog.protocol import ApiError
from include.local.catalog.store import as_micros, as_moment

if TYPE_CHECKING:
    import sqlite3

    from include.local.catalog.protocol import Document
    from include.local.catalog.store import Store

ASSET: Final = "ASSET"
PRODUCT: Final = "DATA_PRODUCT"
LISTING: Final = "LISTING"


@dataclass
class Entities:
    """The entities of one domain.

    Attributes:
        domain_id: the domain.
        store: its state.
    """

    domain_id: str
    store: Store

    def by_external(self, kind: str, external: str) -> sqlite3.Row | None:
        """The entity with an ``externalIdentifier``."""
        return self.store.one("SELECT * FROM entities WHERE kind = ? AND external = ? LIMIT 1", kind, external)

    def listing_of(self, entity: str) -> sqlite3.Row | None:
        """The listing of an asset or a data product, in its latest revision."""
        return self.store.one(
            "SELECT * FROM entities WHERE kind = ? AND source = ? ORDER BY revision DESC LIMIT 1", LISTING, entity
        )

    def write(
        self,
        kind: str,
        entity: str,
        revision: int,
        document: Document,
        external: str | None = None,
        source: str | None = None,
    ) -> sqlite3.Row:
        """Add a revision.

        Args:
            kind: of the entity.
            entity: its id.
            revision: from 1.
            document: all about it.
            external: its ``externalIdentifier``.
            source: what it stands for; of an asset its ``sourceIdentifier`` unless this says otherwise.
        """
        source = source or form_of(document, "AssetCommonDetailsForm").get("sourceIdentifier")
        self.store.run(
            "INSERT INTO entities (kind, id, revision, external, source, document) VALUES (?, ?, ?, ?, ?, ?)",
            *(
                kind,
                entity,
                revision,
                external,
                source,
                json.dumps(document | {"created": as_micros(datetime.now(UTC))}),
            ),
        )
        return self.latest(kind, entity)

    def latest(self, kind: str, identifier: str, revision: str | None = None) -> sqlite3.Row:
        """A revision of an entity, the latest unless one is named.

        Raises:
            ApiError: there is none.
        """
        row = self.store.one(
            "SELECT * FROM entities WHERE kind = ? AND id = ? AND (? IS NULL OR revision = ?) ORDER BY revision DESC LIMIT 1",
            *(kind, identifier, revision, revision),
        )
        if row is None:
            which = f"{identifier} revision {revision}" if revision else identifier
            raise ApiError("ResourceNotFoundException", f"no {kind} {which} in {self.domain_id}")
        return row

    def all(self, kind: str) -> list[sqlite3.Row]:
        """The latest revisions, in the order in which the entities were made."""
        return self.store.all(
            "SELECT latest.* FROM entities AS latest JOIN (SELECT kind, id, max(revision) AS revision, min(seq) AS made FROM entities "
            "WHERE kind = ? GROUP BY kind, id) USING (kind, id, revision) ORDER BY made",
            kind,
        )

    def history(self, row: sqlite3.Row) -> Document:
        """When and by whom an entity and its revision were made."""
        first = self.latest(row["kind"], row["id"], "1")
        return {
            "createdAt": created_at(row),
            "createdBy": CALLER,
            "firstRevisionCreatedAt": created_at(first),
            "firstRevisionCreatedBy": CALLER,
        }


def created_at(row: sqlite3.Row) -> datetime:
    """When the revision was made."""
    return as_moment(json.loads(row["document"])["created"])


def form_of(document: Document, name: str) -> Document:
    """The content of a form of an asset; empty if it has none such."""
    content = next((form["content"] for form in document.get("forms", ()) if form["formName"] == name), "{}")
    form: Document = json.loads(content)
    return form


def _field(row: sqlite3.Row, attribute: str) -> str:
    """A field by its path, ``name`` or ``RedshiftViewForm.viewName``; empty if there is none."""
    document = json.loads(row["document"])
    form, _, path = attribute.partition(".")
    value = form_of(document, form).get(path) if path else document.get(attribute)
    return "" if value is None else str(value)


def matches(row: sqlite3.Row, said: Document) -> bool:
    """Whether an entity is what a search asks for."""
    text = said.get("searchText", "").lower()
    where = [_field(row, one["attribute"]) for one in said.get("searchIn", [])] or [row["document"]]
    words_there = all(any(word in place.lower() for place in where) for word in text.split())
    return words_there and ("filters" not in said or _passes(row, said["filters"]))


def _passes(row: sqlite3.Row, clause: Document) -> bool:
    if "and" in clause:
        return all(_passes(row, one) for one in clause["and"])
    if "or" in clause:
        return any(_passes(row, one) for one in clause["or"])
    wanted = clause["filter"]
    if wanted.get("operator", "EQ") not in ("EQ", "TEXT_SEARCH") or "intValue" in wanted:
        raise ApiError("ValidationException", "filters: the stand-in compares texts, with EQ and TEXT_SEARCH only")
    found, value = _field(row, wanted["attribute"]).lower(), wanted.get("value", "").lower()
    return value in found if wanted.get("operator") == "TEXT_SEARCH" else value == found


def in_order(rows: list[sqlite3.Row], said: Document) -> list[sqlite3.Row]:
    """What a search found, sorted as it asks for."""
    if "sort" not in said:
        return rows
    descending = said["sort"].get("order") == "DESCENDING"
    return sorted(rows, key=lambda row: _field(row, said["sort"]["attribute"]), reverse=descending)
