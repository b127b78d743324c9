"""What a job can know of the Spark that runs it."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def describe(session: SparkSession) -> str:
    """One line for the driver's log: versions, master, application, driver, slots."""
    context = session.sparkContext
    settings = context.getConf()
    driver = settings.get("spark.kubernetes.driver.pod.name") or settings.get("spark.driver.host") or platform.node()
    return (
        f"Spark {session.version} on Python {platform.python_version()}: application {context.applicationId} ({context.appName}), "
        f"driver {driver}, master {context.master}, {context.defaultParallelism} slots"
    )
