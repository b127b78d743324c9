"""What is published: listings of assets and data products. Chosen here: a listing is ACTIVE at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from include.local.catalog.entities import LISTING, PRODUCT, created_at, matches
from include.local.catalog.identity import CALLER
from include.local.catalog.protocol import ApiError
from include.local.catalog.store import Page, new_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from include.local.catalog.entities import Entities
    from include.local.catalog.protocol import Document
    from include.local.catalog.scores import Scores

_LISTING_NAME: Final = 64
"""GetListing's limit; an asset's name may be longer."""


@dataclass
class Listings:
    """The listings of one domain.

    Attributes:
        domain_id: the domain.
        project_id: its only project.
        entities: what it has.
        scores: the time series of its assets.
    """

    domain_id: str
    project_id: str
    entities: Entities
    scores: Scores

    def operations(self) -> dict[str, Callable[[Document], Document]]:
        """The operations by name."""
        return {
            "CreateListingChangeSet": self.change_listing,
            "GetListing": self.get_listing,
            "SearchListings": self.search_listings,
        }

    def change_listing(self, said: Document) -> Document:
        """CreateListingChangeSet: publish a revision of an entity, or unpublish the entity."""
        entity = self.entities.latest(said["entityType"], said["entityIdentifier"], said.get("entityRevision"))
        row = self.entities.listing_of(entity["id"])
        if said["action"] == "UNPUBLISH" and row is None:
            raise ApiError("ResourceNotFoundException", f"no listing of {said['entityType']} {entity['id']}")
        listing = {
            "name": json.loads(entity["document"])["name"],
            "entityType": said["entityType"],
            "entityId": entity["id"],
            "entityRevision": entity["revision"],
            "status": "ACTIVE" if said["action"] == "PUBLISH" else "INACTIVE",
        }
        listing_id, revision = (row["id"], row["revision"] + 1) if row else (new_id(), 1)
        written = self.entities.write(LISTING, listing_id, revision, listing, source=entity["id"])
        return {
            "listingId": written["id"],
            "listingRevision": str(written["revision"]),
            "status": listing["status"],
        }

    def get_listing(self, said: Document) -> Document:
        """GetListing."""
        row = self.entities.latest(LISTING, said["identifier"], said.get("listingRevision"))
        listing = json.loads(row["document"])
        entity = self.entities.latest(listing["entityType"], listing["entityId"], str(listing["entityRevision"]))
        return {
            "domainId": self.domain_id,
            "id": row["id"],
            "listingRevision": str(row["revision"]),
            "name": listing["name"][:_LISTING_NAME],
            "description": json.loads(entity["document"]).get("description"),
            "status": listing["status"],
            "createdAt": created_at(row),
            "createdBy": CALLER,
            "item": self._listed(listing, entity),
        }

    def search_listings(self, said: Document) -> Document:
        """SearchListings: what is published."""
        rows = []
        for row in self.entities.all(LISTING):
            listing = json.loads(row["document"])
            entity = self.entities.latest(listing["entityType"], listing["entityId"], str(listing["entityRevision"]))
            if listing["status"] == "ACTIVE" and matches(entity, said):
                rows.append((row, listing, entity))
        page = Page(said)
        found, more = page.cut(rows[page.at : page.at + page.size + 1])
        items = [self._listing_item(*one, said.get("additionalAttributes", [])) for one in found]
        return {"items": items, "totalMatchCount": len(rows), **more}

    def _listed(self, listing: Document, entity: sqlite3.Row) -> Document:
        document = json.loads(entity["document"])
        if listing["entityType"] == PRODUCT:
            return {
                "dataProductListing": {
                    "dataProductId": entity["id"],
                    "dataProductRevision": str(entity["revision"]),
                    "owningProjectId": self.project_id,
                }
            }
        return {
            "assetListing": {
                "assetId": entity["id"],
                "assetRevision": str(entity["revision"]),
                "assetType": document["typeIdentifier"],
                "forms": _forms_as_text(document),
                "latestTimeSeriesDataPointForms": self.scores.latest(entity["id"]),
                "owningProjectId": self.project_id,
            }
        }

    def _listing_item(self, row: sqlite3.Row, listing: Document, entity: sqlite3.Row, wanted: list[str]) -> Document:
        document = json.loads(entity["document"])
        common = {
            "listingId": row["id"],
            "listingRevision": str(row["revision"]),
            "name": document["name"],
            "entityId": entity["id"],
            "entityRevision": str(entity["revision"]),
            "description": document.get("description"),
            "createdAt": created_at(row),
            "owningProjectId": self.project_id,
        }
        if listing["entityType"] == PRODUCT:
            return {"dataProductListing": common}
        more: Document = {"forms": _forms_as_text(document)} if "FORMS" in wanted else {}
        if "TIME_SERIES_DATA_POINT_FORMS" in wanted:
            more["latestTimeSeriesDataPointForms"] = self.scores.latest(entity["id"])
        return {
            "assetListing": common | {"entityType": document["typeIdentifier"], "additionalAttributes": more or None}
        }


def _forms_as_text(document: Document) -> str:
    return json.dumps({form["formName"]: json.loads(form["content"]) for form in document["forms"]})
