"""Tasks around a Spark job. Nothing heavy is imported before a task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.platform import connections
from include.platform.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class PlaceJobOperator(BaseOperator):
    """Packages a job of ``include/spark/jobs`` and puts it where the clusters read it.

    The result is that of `PlacedJob.to_xcom`: ``main_application_file`` and ``py_files`` for the job's spec.

    Args:
        job: its name. Templated.
        via_gateway: let the gateway write it to its own bucket, where the clusters can't read the platform's. Templated.
        batch_gateway_conn_id: of the gateway.

    Raises:
        JobUnknown: there is no such job.
        JobNotPackable: it imports what can't travel.
        PlacedFileDiffers: something else is at a file's address.
        JobNotPlaced: S3 does not take it; a retry may help.
    """

    template_fields: Sequence[str] = ("job", "via_gateway", "batch_gateway_conn_id")
    ui_color = "#fbe3d3"

    def __init__(
        self,
        *,
        job: str,
        via_gateway: bool | str = False,
        batch_gateway_conn_id: str = connections.BATCH_GATEWAY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.via_gateway = via_gateway
        self.batch_gateway_conn_id = batch_gateway_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Package and place."""
        from include.spark.packages import package_job
        from include.spark.placement import place_in_s3, place_through_gateway

        package = package_job(self.job)
        if _is_true(self.via_gateway):
            from data_platform.batch_gateway.hook import BatchGatewayHook

            placed = place_through_gateway(package, BatchGatewayHook(self.batch_gateway_conn_id).upload)
        else:
            from include.warehouse.object_store import s3_client

            settings = load_settings()
            placed = place_in_s3(package, s3_client(), settings.bucket, settings.spark_s3_scheme)
        self.log.info("job %s %s is at %s", placed.job, placed.digest[:16], placed.main_application_file)
        return placed.to_xcom()


def _is_true(value: bool | str) -> bool:
    """A boolean, or what a template makes of one."""
    if str(value) not in {"True", "False", "true", "false"}:
        raise ValueError(f"via_gateway: expected true or false, found {value!r}")
    return str(value).lower() == "true"
