"""What a job's sparkConf says of the task that submitted it, so that Spark's own lineage events hang below the task's.

The image must carry OpenLineage's Spark agent, and the conf its listener (``spark.extraListeners``); both are the cluster's matter.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from data_platform.lineage.config import read_transport_config
from data_platform.lineage.exceptions import LineageConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

_SECRET: Final = re.compile(r"spark\.openlineage\.transport\.(transports\.[^.]+\.)?(auth|headers)\..*")
"""Keys that may hold a credential: ``/spec`` and ``/describe`` show sparkConf to every user of the gateway."""

log = logging.getLogger(__name__)


def with_lineage(spark_conf: Mapping[str, str], context: Context, *, parent: bool, transport: bool) -> dict[str, str]:
    """The conf with OpenLineage's facts in it. What the conf says itself is kept; a failure to find the facts is only logged.

    Args:
        spark_conf: of the job.
        context: of the task.
        parent: add the task as parent and the DAG run's root as root parent.
        transport: add where events go.
    """
    from airflow.providers.openlineage import conf

    if conf.is_disabled():
        return dict(spark_conf)
    facts: dict[str, Any] = dict(spark_conf)
    try:
        if parent:
            from airflow.providers.openlineage.utils.spark import inject_parent_job_information_into_spark_properties

            facts = inject_parent_job_information_into_spark_properties(facts, context)
        if transport and not any(key.startswith("spark.openlineage.transport") for key in facts):
            facts |= _transport(context)
    except Exception as error:
        log.warning("the job's lineage will not hang below this task: %s: %s", type(error).__name__, error)
    return {key: str(value) for key, value in facts.items()}


def _transport(context: Context) -> dict[str, Any]:
    """Where Spark sends its events: the catalog of this deployment, by the cluster's IAM role; else where Airflow sends its own."""
    try:
        domain = read_transport_config().domain_id
        # https://docs.aws.amazon.com/datazone/latest/userguide/datazone-data-lineage.html, Spark on EMR
        ours = {
            "spark.openlineage.transport.type": "amazon_datazone_api",
            "spark.openlineage.transport.domainId": domain,
        }
        return ours if domain else {}
    except LineageConfigInvalid:
        pass
    from airflow.providers.openlineage.utils.spark import inject_transport_information_into_spark_properties

    return without_secrets(inject_transport_information_into_spark_properties({}, context))


def without_secrets(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The transport's properties without its credentials."""
    secret = sorted(key for key in properties if _SECRET.fullmatch(key))
    if secret:
        log.warning(
            "%s: not given to the job, for everybody who may ask the gateway could read them. Mount an openlineage.yml with the key from a "
            "Kubernetes secret (sparkConf spark.kubernetes.driver.secrets.<secret>: <path>); driver.env names it as OPENLINEAGE_CONFIG",
            ", ".join(secret),
        )
    return {key: value for key, value in properties.items() if key not in secret}
