"""The assets of published relations: found by the name that lineage has for them, and, where a project is named, kept up to date.

An asset and a relation belong together when the asset's ``sourceIdentifier`` (or, of one that a program made, its
``externalIdentifier``) is the relation's ARN; DataZone links lineage by the first
(https://docs.aws.amazon.com/sagemaker-unified-studio/latest/userguide/datazone-data-lineage-sourceIdentifier-attribute.html). Search is by
words, so what it finds is compared here, letter by letter.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.catalog.api import CatalogUnavailable, Patience, RequestConflicts, open_client
from include.catalog.asset_forms import COLUMNS, DETAILS, MAX_NAME, RedshiftRelation, as_forms, describe, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from include.catalog.asset_forms import Described, Forms
    from include.contracts.products import DataProduct, Relation

log = logging.getLogger(__name__)

_PAGE: Final = 50


@dataclass(frozen=True)
class Asset:
    """An asset of the catalog.

    Attributes:
        asset_id: the catalog's.
        project_id: that owns it.
    """

    asset_id: str
    project_id: str


class AssetCatalog:
    """The assets of one DataZone domain.

    Args:
        client: boto3's DataZone client.
        domain_id: the domain.
        project_id: that owns the data products' assets; without it assets are only found.
        waiting: ``pause`` and ``jitter`` of `Patience`.
    """

    def __init__(self, client: Any, domain_id: str, project_id: str = "", **waiting: Any) -> None:
        self.domain_id = domain_id
        self.project_id = project_id
        self._client = client
        self._patience = Patience(f"DataZone domain {domain_id}", **waiting)
        self._types: dict[str, dict[str, Any]] = {}

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation for this domain, patiently.

        Args:
            operation: the client's method.
            arguments: what it is told besides the domain.

        Raises:
            CatalogError: it is not answered; see `Patience.call`.
        """
        act: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        return self._patience.call(lambda: act(domainIdentifier=self.domain_id, **arguments))

    def find(self, identifier: str) -> Asset | None:
        """The asset of a relation; None if there is none. Of several, this project's.

        Args:
            identifier: the relation's ARN, or what else lineage calls it.

        Raises:
            CatalogError: the catalog does not say.
        """
        found = [
            Asset(item["identifier"], item["owningProjectId"])
            for item in self._search(identifier.rpartition("/")[2])
            if identifier in _identifiers(item)
        ]
        if len(found) > 1:
            log.warning(
                "catalog: expected one asset of %s, found %s; only one of them gets the scores, remove the others in the catalog",
                identifier,
                ", ".join(f"{asset.asset_id} of project {asset.project_id}" for asset in found),
            )
        return min(found, key=lambda asset: (asset.project_id != self.project_id, asset.asset_id), default=None)

    def create(self, identifier: str, product: DataProduct, relation: Relation) -> Asset | None:
        """Create the asset of a relation as its contract describes it.

        Args:
            identifier: the relation's ARN.
            product: its product.
            relation: its contract.

        Returns:
            The asset; None without a project, and of a relation that is not Redshift's.

        Raises:
            CatalogError: the catalog does not answer, or does not want it.
        """
        at = RedshiftRelation.parse(identifier)
        return self._create(describe(at, product, relation)) if self.project_id and at else None

    def revise(self, asset: Asset, identifier: str, product: DataProduct, relation: Relation) -> None:
        """Bring an asset up to date with its contract; nothing is written unless the contract says something else now.

        Another project's asset is left as it is.

        Args:
            asset: that was found.
            identifier: the relation's ARN.
            product: its product.
            relation: its contract.

        Raises:
            CatalogError: the catalog does not answer, or does not want it.
        """
        at = RedshiftRelation.parse(identifier)
        if at and self.project_id == asset.project_id:
            self._revise(asset, describe(at, product, relation))

    def _search(self, text: str) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            page = self.call(
                "search",
                searchScope="ASSET",
                searchText=text[:512],
                maxResults=_PAGE,
                additionalAttributes=["FORMS"],
                **more,
            )
            yield from (item["assetItem"] for item in page.get("items", ()) if "assetItem" in item)
            if not page.get("nextToken"):
                return
            more = {"nextToken": page["nextToken"]}

    def _create(self, described: Described) -> Asset:
        at = described.at
        wanted = {
            "name": at.relation[:MAX_NAME],
            "description": described.description,
            "typeIdentifier": at.asset_type,
            "externalIdentifier": at.arn,
            "owningProjectIdentifier": self.project_id,
            "formsInput": self._input(at.asset_type, described.forms, {}),
        }
        try:
            made = self.call("create_asset", **wanted, clientToken=_token("create", self.domain_id, wanted))
        except RequestConflicts as error:
            if asset := self.find(at.arn):  # somebody else was faster
                return asset
            raise CatalogUnavailable(f"the asset of {at.arn} is there, but not to be found yet: {error}") from error
        log.info("catalog: created asset %s of %s", made["id"], at.arn)
        return Asset(made["id"], self.project_id)

    def _revise(self, asset: Asset, described: Described) -> None:
        there = self.call("get_asset", identifier=asset.asset_id)
        existing = as_forms(there["formsOutput"])
        forms = merged(existing, described)
        if forms == existing and there.get("description", "") == described.description:
            return
        wanted = {
            "name": there["name"],
            "description": described.description,
            "formsInput": self._input(
                there["typeIdentifier"], forms, {form["formName"]: form for form in there["formsOutput"]}
            ),
        } | ({"glossaryTerms": there["glossaryTerms"]} if there.get("glossaryTerms") else {})
        token = _token("revise", asset.asset_id, there["revision"], wanted)
        made = self.call("create_asset_revision", identifier=asset.asset_id, **wanted, clientToken=token)
        log.info("catalog: revised asset %s of %s: revision %s", asset.asset_id, described.at.arn, made["revision"])

    def _input(self, asset_type: str, forms: Forms, existing: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Forms as they are sent: those that the asset's type has in its current revision, others as they were."""
        if asset_type not in self._types:
            self._types[asset_type] = self.call("get_asset_type", identifier=asset_type)["formsOutput"]
        known, sent = self._types[asset_type], []
        for name, content in forms.items():
            entry = known.get(name) or existing.get(name)
            if entry is None and name in (DETAILS, COLUMNS):
                continue  # this asset type has no place for it
            kind = {"typeIdentifier": entry["typeName"], "typeRevision": entry["typeRevision"]} if entry else {}
            sent.append({"formName": name, **kind, "content": json.dumps(content, sort_keys=True, ensure_ascii=False)})
        return sent


def _identifiers(item: Mapping[str, Any]) -> set[str]:
    """What an asset of a search stands for."""
    forms = as_forms(item.get("additionalAttributes", {}).get("formsOutput", []))
    return {str(item.get("externalIdentifier", "")), str(forms.get(DETAILS, {}).get("sourceIdentifier", ""))}


def _token(*parts: Any) -> str:
    """The same request has the same token, so that a repetition is recognised."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def open_asset_catalog(domain_id: str, project_id: str = "", **waiting: Any) -> AssetCatalog:
    """The assets of a domain, as the AWS connection says.

    Args:
        domain_id: the domain.
        project_id: that owns the data products' assets; without it assets are only found.
        waiting: ``pause`` and ``jitter`` of `Patience`.
    """
    return AssetCatalog(open_client(), domain_id, project_id, **waiting)
