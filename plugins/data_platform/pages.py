"""Pages that a workflow leaves in S3 and that the Airflow UI shows to logged-in users who may see plugins."""

from __future__ import annotations

import html
import os
from typing import Any, Final

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

AWS_CONN_ID: Final = "aws_default"
BUCKET_OPTION: Final = "AIRFLOW__DATA_PLATFORM__BUCKET"
DEFAULT_BUCKET: Final = "data-platform"


def headers(policy: str) -> dict[str, str]:
    """What goes with a page: it must not act with the reader's Airflow session.

    Args:
        policy: the page's content security policy, beside what holds for all.
    """
    return {
        "Content-Security-Policy": (
            f"{policy}; default-src 'none'; connect-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-cache",
    }


def make_app(title: str) -> FastAPI:
    """An app whose every route asks who is there."""
    return FastAPI(
        title=title,
        dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )


def message(title: str, text: str, status: int) -> HTMLResponse:
    """A page that says why there is no other."""
    page = f"<!doctype html><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
    return HTMLResponse(page, status_code=status, headers=headers("sandbox"))


def read_page(key: str) -> tuple[bytes, str] | None:
    """A page of the platform's bucket and its ETag; None if there is none yet."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config
    from botocore.exceptions import ClientError

    config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
    client: Any = S3Hook(aws_conn_id=AWS_CONN_ID, config=config).get_conn()
    try:
        found = client.get_object(Bucket=os.environ.get(BUCKET_OPTION) or DEFAULT_BUCKET, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None
        raise
    return found["Body"].read(), found["ETag"]
