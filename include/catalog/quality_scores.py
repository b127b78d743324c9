"""Tells the catalog how good the published data is: a relation's score goes to its asset, once a gate's run.

DataZone has scores of assets only (https://docs.aws.amazon.com/datazone/latest/APIReference/API_PostTimeSeriesDataPoints.html), so a
product's score is reckoned here: the percentage of all its checks that passed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.catalog.api import CatalogError, RequestConflicts
from include.quality.report import Outcome
from include.quality.scores import quality_form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from include.catalog.assets import Asset, AssetCatalog
    from include.contracts.products import DataProduct, Relation
    from include.quality.report import GateReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PostedScore:
    """A score that the catalog has.

    Attributes:
        relation: of what.
        asset_id: where it is.
        score: percentage of the relation's checks that passed.
    """

    relation: str
    asset_id: str
    score: float


@dataclass
class CatalogPublication:
    """What the catalog was told.

    Attributes:
        posted: scores that it has, whether from this try or an earlier one.
        unlinked: relations without an asset: nobody looks for their score in the catalog.
        failed: what went wrong, by relation.
        products: score by product.
    """

    posted: list[PostedScore] = field(default_factory=list)
    unlinked: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    products: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Small enough for an XCom."""
        return {
            "posted": {score.relation: score.score for score in self.posted},
            "unlinked": self.unlinked,
            "failed": {relation: reason[:500] for relation, reason in self.failed.items()},
            "products": self.products,
        }


class ScoresNotPublished(Exception):
    """The catalog lacks a score, or has an asset that is not as its contract says; all others are right.

    Attributes:
        publication: what was done.
    """

    def __init__(self, publication: CatalogPublication) -> None:
        reasons = "; ".join(f"{relation}: {reason}" for relation, reason in publication.failed.items())
        super().__init__(
            f"expected every relation's score in the catalog and every asset as its contract says, found {len(publication.posted)} scores "
            f"posted and {len(publication.failed)} relations at fault: {reasons}. The data is published all the same. Clear this task when "
            "the catalog answers, or mend what it refuses; no score is posted twice"
        )
        self.publication = publication


def publish_quality(
    catalog: AssetCatalog, report: GateReport, products: Sequence[DataProduct], identify: Callable[[str], str]
) -> CatalogPublication:
    """Post each relation's score to its asset; with a project, create or update the asset by its contract too.

    One relation's failure doesn't stop the others. Called again, it posts nothing twice.

    Args:
        catalog: the domain's assets.
        report: what the gate found.
        products: the contracts.
        identify: what the catalog calls a relation: its ARN.

    Raises:
        ScoresNotPublished: something failed, after all else was done.
    """
    promised = {relation.name: (product, relation) for product in products for relation in product.relations}
    published = CatalogPublication(products=product_scores(report))
    for relation in report.relations:
        try:
            _publish(catalog, report, relation, identify(relation), promised.get(relation), published)
        except CatalogError as error:
            log.warning("catalog: %s: %s", relation, error)
            published.failed[relation] = str(error)
    _tell(published, catalog)
    if published.failed:
        raise ScoresNotPublished(published)
    return published


def _publish(
    catalog: AssetCatalog,
    report: GateReport,
    relation: str,
    identifier: str,
    promised: tuple[DataProduct, Relation] | None,
    published: CatalogPublication,
) -> None:
    """One relation. The score comes before the revision, which must not stop it."""
    found = catalog.find(identifier)
    asset = catalog.create(identifier, *promised) if found is None and promised else found
    if asset is None:
        published.unlinked.append(relation)
        return
    _post(catalog, asset, report, relation)
    published.posted.append(PostedScore(relation, asset.asset_id, report.score(relation)))
    if found and promised:
        catalog.revise(found, identifier, *promised)


def product_scores(report: GateReport) -> dict[str, float]:
    """Percentage of a product's checks that passed, by product; each check counts once, whatever its severity."""
    outcomes = defaultdict[str, list[bool]](list)
    for result in report.results:
        outcomes[result.check.product].append(result.outcome is Outcome.PASSED)
    return {product: round(100.0 * sum(passed) / len(passed), 2) for product, passed in sorted(outcomes.items())}


def _post(catalog: AssetCatalog, asset: Asset, report: GateReport, relation: str) -> None:
    form = quality_form(report, relation)
    run = [asset.asset_id, form["formName"], relation, report.scanned_at.isoformat()]
    try:
        catalog.call(
            "post_time_series_data_points",
            entityIdentifier=asset.asset_id,
            entityType="ASSET",
            forms=[form],
            clientToken=hashlib.sha256(json.dumps(run).encode()).hexdigest(),
        )
    except RequestConflicts:
        log.info("catalog: %s has the score of this run, as another version of this program wrote it", relation)


def _tell(published: CatalogPublication, catalog: AssetCatalog) -> None:
    for score in published.posted:
        log.info("catalog: score of %s: %.2f %%, asset %s", score.relation, score.score, score.asset_id)
    if published.unlinked:
        remedy = (
            "their names are no ARNs of Redshift, or no contract promises them"
            if catalog.project_id
            else "import them with a data source of DataZone, or name the project that owns them in data_platform.catalog_project_id"
        )
        log.warning("catalog: no asset of %s, so their scores are not in it; %s", ", ".join(published.unlinked), remedy)
