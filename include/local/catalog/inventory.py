"""What a project has: assets, data products, the types of both, and the search for them.

As documented: an ``externalIdentifier`` is unique, a new revision has only the forms it is given, a form's structure is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.local.catalog.entities import ASSET, PRODUCT, in_order, matches
from include.local.catalog.form_types import (
    ASSET_TYPE_REVISION,
    ASSET_TYPES,
    FormEntry,
    check_content,
    revision_of,
    smithy,
)
from include.local.catalog.identity import CALLER
from include.local.catalog.protocol import ApiError
from include.local.catalog.store import Page, new_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from include.local.catalog.entities import Entities
    from include.local.catalog.protocol import Document
    from include.local.catalog.scores import Scores


@dataclass
class Inventory:
    """The inventory of one domain.

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
            "GetProject": self.get_project,
            "GetFormType": self.get_form_type,
            "GetAssetType": self.get_asset_type,
            "CreateAsset": self.create_asset,
            "CreateAssetRevision": self.revise_asset,
            "GetAsset": self.get_asset,
            "Search": self.search,
            "CreateDataProduct": self.create_product,
            "GetDataProduct": self.get_product,
        }

    def get_project(self, said: Document) -> Document:
        """GetProject."""
        self._check_project(said["identifier"])
        return {"domainId": self.domain_id, "id": self.project_id, "name": "local", "createdBy": CALLER}

    def get_form_type(self, said: Document) -> Document:
        """GetFormType: only of the system's types, and only their current revision."""
        name = said["formTypeIdentifier"]
        current = revision_of(name)
        if said.get("revision", current) != current:
            raise ApiError("ResourceNotFoundException", f"{name}: no revision {said['revision']}")
        return {
            "domainId": self.domain_id,
            "name": name,
            "revision": current,
            "model": {"smithy": smithy(name)},
            "status": "ENABLED",
        }

    def get_asset_type(self, said: Document) -> Document:
        """GetAssetType."""
        forms = _asset_type(said["identifier"])
        return {
            "domainId": self.domain_id,
            "name": said["identifier"],
            "revision": ASSET_TYPE_REVISION,
            "owningProjectId": self.project_id,
            "formsOutput": {
                name: {
                    "typeName": form.type_name,
                    "typeRevision": revision_of(form.type_name),
                    "required": form.required,
                }
                for name, form in forms.items()
            },
        }

    def create_asset(self, said: Document) -> Document:
        """CreateAsset."""
        self._check_project(said["owningProjectIdentifier"])
        external = said.get("externalIdentifier")
        if external and (known := self.entities.by_external(ASSET, external)):
            raise ApiError("ConflictException", f"externalIdentifier {external} is that of asset {known['id']}")
        self._check_type_revision(said)
        asset = {
            "name": said["name"],
            "description": said.get("description"),
            "typeIdentifier": said["typeIdentifier"],
            "externalIdentifier": external,
            "glossaryTerms": said.get("glossaryTerms"),
            "forms": _forms(said["typeIdentifier"], said.get("formsInput", [])),
        }
        return self._asset(self.entities.write(ASSET, new_id(), 1, asset, external))

    def revise_asset(self, said: Document) -> Document:
        """CreateAssetRevision."""
        row = self.entities.latest(ASSET, said["identifier"])
        before = json.loads(row["document"])
        self._check_type_revision(said)
        asset = before | {
            "name": said["name"],
            "description": said.get("description"),
            "glossaryTerms": said.get("glossaryTerms"),
            "forms": _forms(before["typeIdentifier"], said.get("formsInput", [])),
        }
        return self._asset(self.entities.write(ASSET, row["id"], row["revision"] + 1, asset, row["external"]))

    def get_asset(self, said: Document) -> Document:
        """GetAsset."""
        return self._asset(self.entities.latest(ASSET, said["identifier"], said.get("revision")))

    def search(self, said: Document) -> Document:
        """Search, in the inventory: assets and data products."""
        if said["searchScope"] not in (ASSET, PRODUCT):
            raise ApiError(
                "ValidationException", f"the stand-in searches {ASSET} and {PRODUCT}, not {said['searchScope']}"
            )
        rows = [row for row in self.entities.all(said["searchScope"]) if matches(row, said)]
        if said.get("owningProjectIdentifier", self.project_id) != self.project_id:
            rows = []
        page = Page(said)
        found, more = page.cut(in_order(rows, said)[page.at : page.at + page.size + 1])
        show = self._asset_item if said["searchScope"] == ASSET else self._product_item
        wanted = said.get("additionalAttributes", [])
        return {"items": [show(row, wanted) for row in found], "totalMatchCount": len(rows), **more}

    def create_product(self, said: Document) -> Document:
        """CreateDataProduct."""
        self._check_project(said["owningProjectIdentifier"])
        for item in said.get("items", []):
            self.entities.latest(ASSET, item["identifier"], item.get("revision"))
        product: Document = {key: said[key] for key in ("name", "description", "glossaryTerms", "items") if key in said}
        return self._product(self.entities.write(PRODUCT, new_id(), 1, product))

    def get_product(self, said: Document) -> Document:
        """GetDataProduct."""
        return self._product(self.entities.latest(PRODUCT, said["identifier"], said.get("revision")))

    def _check_project(self, project_id: str) -> None:
        if project_id != self.project_id:
            raise ApiError("ResourceNotFoundException", f"no project {project_id}; the domain has {self.project_id}")

    def _check_type_revision(self, said: Document) -> None:
        if said.get("typeRevision", ASSET_TYPE_REVISION) != ASSET_TYPE_REVISION:
            raise ApiError(
                "ValidationException", f"typeRevision: expected {ASSET_TYPE_REVISION}, found {said['typeRevision']}"
            )

    def _asset(self, row: sqlite3.Row) -> Document:
        asset = json.loads(row["document"])
        listing = self.entities.listing_of(row["id"])
        details = listing and {"listingId": listing["id"], "listingStatus": json.loads(listing["document"])["status"]}
        return {
            "id": row["id"],
            "domainId": self.domain_id,
            "owningProjectId": self.project_id,
            "revision": str(row["revision"]),
            "typeRevision": ASSET_TYPE_REVISION,
            **{
                key: asset.get(key)
                for key in ("name", "description", "typeIdentifier", "externalIdentifier", "glossaryTerms")
            },
            "formsOutput": asset["forms"],
            "readOnlyFormsOutput": [],
            "latestTimeSeriesDataPointFormsOutput": self.scores.latest(row["id"]),
            "listing": details,
            **self.entities.history(row),
        }

    def _asset_item(self, row: sqlite3.Row, wanted: list[str]) -> Document:
        asset = json.loads(row["document"])
        more: Document = {}
        if "FORMS" in wanted:
            more |= {"formsOutput": asset["forms"], "readOnlyFormsOutput": []}
        if "TIME_SERIES_DATA_POINT_FORMS" in wanted:
            more["latestTimeSeriesDataPointFormsOutput"] = self.scores.latest(row["id"])
        return {
            "assetItem": {
                "domainId": self.domain_id,
                "identifier": row["id"],
                "owningProjectId": self.project_id,
                "typeRevision": ASSET_TYPE_REVISION,
                **{
                    key: asset.get(key)
                    for key in ("name", "description", "typeIdentifier", "externalIdentifier", "glossaryTerms")
                },
                "additionalAttributes": more or None,
                **self.entities.history(row),
            }
        }

    def _product(self, row: sqlite3.Row) -> Document:
        product = json.loads(row["document"])
        return {
            "domainId": self.domain_id,
            "id": row["id"],
            "revision": str(row["revision"]),
            "owningProjectId": self.project_id,
            "status": "CREATED",
            **{key: product.get(key) for key in ("name", "description", "glossaryTerms", "items")},
            "formsOutput": [],
            **self.entities.history(row),
        }

    def _product_item(self, row: sqlite3.Row, wanted: list[str]) -> Document:
        product = json.loads(row["document"])
        return {
            "dataProductItem": {
                "domainId": self.domain_id,
                "id": row["id"],
                "owningProjectId": self.project_id,
                **{key: product.get(key) for key in ("name", "description", "glossaryTerms")},
                **self.entities.history(row),
            }
        }


def _asset_type(name: str) -> Mapping[str, FormEntry]:
    if name not in ASSET_TYPES:
        raise ApiError("ResourceNotFoundException", f"no asset type {name}; there are {', '.join(ASSET_TYPES)}")
    return ASSET_TYPES[name]


def _forms(asset_type: str, given: list[Document]) -> list[Document]:
    """An asset's forms, checked.

    Raises:
        ApiError: one is unknown, malformed, twice there or missing.
    """
    known = _asset_type(asset_type)
    forms: dict[str, Document] = {}
    for form in given:
        name = form["formName"]
        if name not in known or name in forms:
            raise ApiError("ValidationException", f"formsInput: expected each of {', '.join(known)} once, found {name}")
        type_name = known[name].type_name
        if form.get("typeIdentifier", type_name) != type_name:
            raise ApiError("ValidationException", f"{name}: expected type {type_name}, found {form['typeIdentifier']}")
        check_content(type_name, form.get("typeRevision"), form.get("content"))
        forms[name] = {
            "formName": name,
            "typeName": type_name,
            "typeRevision": revision_of(type_name),
            "content": form.get("content", "{}"),
        }
    if missing := [name for name, entry in known.items() if entry.required and name not in forms]:
        raise ApiError("ValidationException", f"formsInput: expected {', '.join(missing)}, which {asset_type} requires")
    return list(forms.values())
