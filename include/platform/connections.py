"""Connection ids. Each is resolved by Airflow's secrets backend; none is read at parse time."""

from __future__ import annotations

from typing import Final

AWS: Final = "aws_default"
"""AWS itself. Locally its ``endpoint_url`` points at the stand-ins."""

WAREHOUSE_BUILD: Final = "warehouse_build"
"""Where dbt builds and products are published: ``redshift`` in production, ``duckdb`` on a laptop."""

ZERO_ETL_TICKIT: Final = "zero_etl_tickit"
"""The zero-ETL integration of the TICKIT source: integration ARN, target database, Redshift workgroup or cluster."""

TENANTS: Final = "aws_tenants"
"""AWS as the role that moves tenants (``deploy/iam/tenant_portability.json``), in the account of the application."""

INGESTION: Final = "aws_ingestion"
"""AWS as the role that ingests security logs (``deploy/iam/ingestion.json``): raw objects, queue, streams, ledger, data lake."""

BATCH_GATEWAY: Final = "batch_gateway_spark"
"""The Batch Processing Gateway that Spark jobs are submitted through."""

AIRFLOW_API: Final = "airflow_api"
"""This environment's own REST API: ``configure_platform`` writes pools and variables, a build its run's note."""

ALERTS_FAILURES: Final = "alerts_failures"
"""Where failures and missed deadlines are told: ``aws`` (SNS topic), ``http`` (webhook); absent means the log only."""
