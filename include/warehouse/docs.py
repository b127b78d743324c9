"""dbt's documentation of the project, as one page in S3, which the plugin ``dbt_docs`` shows in the Airflow UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.warehouse.exceptions import DbtCouldNotRun
from include.warehouse.object_store import head

if TYPE_CHECKING:
    from pathlib import Path

    from include.warehouse.object_store import ObjectStore

KEY = "dbt-docs/index.html"
"""The same key as in ``data_platform.dbt_docs``; plugins don't import this package."""
_PROJECT = "dbt-project"


def docs_are_current(client: ObjectStore, bucket: str, project: str) -> bool:
    """Whether the page in S3 was written from this version of the project."""
    found = head(client, bucket, KEY)
    return found is not None and found["Metadata"].get(_PROJECT) == project


def save_docs(client: ObjectStore, bucket: str, project: str, target_dir: Path) -> None:
    """Put dbt's page where the plugin reads it.

    Raises:
        DbtCouldNotRun: dbt left no page.
    """
    page = target_dir / "static_index.html"
    if not page.exists():
        raise DbtCouldNotRun(
            f"expected dbt docs generate --static to write {page}, found nothing; see dbt's words in this task's log"
        )
    client.put_object(
        Bucket=bucket,
        Key=KEY,
        Body=page.read_bytes(),
        ContentType="text/html; charset=utf-8",
        Metadata={_PROJECT: project},
    )
