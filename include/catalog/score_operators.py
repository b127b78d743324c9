"""The task that tells the catalog how good the published data is. Nothing heavy is imported before a task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.platform.settings import load_settings
from include.quality.operators import ProductOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishScoresOperator(ProductOperator):
    """Posts the quality score of each relation that readers now see to its asset in the catalog.

    Only of what is published: a version that is held is nobody's to read, and its results are in the lineage of the audit relations. The
    result names what was posted and which relations have no asset.

    Args:
        built_by_task_id: task whose result has the ``run_id`` of the build whose report counts; this run's own if None.

    Raises:
        ScoresNotPublished: some relations' scores could not be posted; the others were. A retry posts them all, none twice.
        EvidenceUnreadable: the gate's report can't be read.
        AirflowSkipException: there is no catalog.
        AirflowFailException: there is no report, or the configuration contradicts itself.
    """

    def __init__(self, *, built_by_task_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built_by_task_id = built_by_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Post."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.catalog.assets import open_asset_catalog
        from include.catalog.datasets import relation_identifier
        from include.catalog.quality_scores import publish_quality
        from include.catalog.reconcile_operators import catalog_names, lineage_transport
        from include.contracts.load import load_products

        ti, transport = context["ti"], lineage_transport()
        naming = catalog_names(transport)
        run_id = ti.xcom_pull(task_ids=self.built_by_task_id)["run_id"] if self.built_by_task_id else ti.run_id
        report = self.evidence().load(run_id)
        if report is None:
            raise AirflowFailException(
                f"expected the gate's report of run {run_id}, found none at s3://{load_settings().bucket}/{self.evidence().key(run_id)}; "
                "the next build posts its own"
            )
        warehouse = self.warehouse()
        published = publish_quality(
            open_asset_catalog(transport.domain_id, load_settings().catalog_project_id),
            report,
            load_products(self.product.name),
            lambda relation: relation_identifier(warehouse, naming, self.product.name, relation),
        )
        return published.summary()
