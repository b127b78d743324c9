"""Shows dbt's documentation inside the Airflow UI.

The page is one file that ``write_docs`` leaves in S3. It is served to logged-in users who may see plugins, sandboxed by its content
security policy: a page made from model descriptions must not act with the reader's Airflow session.
"""

from __future__ import annotations

import html
import logging
import os
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

log = logging.getLogger(__name__)

AWS_CONN_ID = "aws_default"
BUCKET_OPTION = "AIRFLOW__DATA_PLATFORM__BUCKET"
DEFAULT_BUCKET = "data-platform"
KEY = "dbt-docs/index.html"
URL_PREFIX = "/dbt-docs"

# dbt's page has its script, style and data inline. Without allow-same-origin it runs in an origin of its own: no cookies, no API.
_HEADERS = {
    "Content-Security-Policy": (
        "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data:; font-src data:; connect-src 'none'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


def _message(title: str, text: str, status: int) -> HTMLResponse:
    page = f"<!doctype html><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
    return HTMLResponse(page, status_code=status, headers=_HEADERS)


def _read_page() -> tuple[bytes, str] | None:
    """The page and its ETag; None if there is none yet."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config
    from botocore.exceptions import ClientError

    config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
    client: Any = S3Hook(aws_conn_id=AWS_CONN_ID, config=config).get_conn()
    try:
        found = client.get_object(Bucket=os.environ.get(BUCKET_OPTION) or DEFAULT_BUCKET, Key=KEY)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
            return None
        raise
    return found["Body"].read(), found["ETag"]


app = FastAPI(
    title="dbt docs",
    dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)


@app.get("/index.html")
def index() -> HTMLResponse:
    """The documentation of dbt, or a page that says why there is none."""
    try:
        page = _read_page()
    except Exception as error:
        log.warning("the dbt docs can't be read from S3: %s", error)
        return _message(
            "dbt docs", "The documentation can't be read from S3 just now; the api-server's log says why.", 503
        )
    if page is None:
        return _message(
            "dbt docs", "No documentation yet: the first successful run of build_finance_products writes it.", 404
        )
    content, etag = page
    return HTMLResponse(content, headers={**_HEADERS, "ETag": etag})


class DbtDocsPlugin(AirflowPlugin):
    """Adds the page to the menu."""

    name = "dbt_docs"
    fastapi_apps = [{"name": "dbt docs", "app": app, "url_prefix": URL_PREFIX}]  # noqa: RUF012 - Airflow's own attribute
    external_views = [  # noqa: RUF012 - Airflow's own attribute
        {
            "name": "dbt docs",
            "href": f"{URL_PREFIX}/index.html",
            "destination": "nav",
            "url_route": "dbt-docs",
            "category": "browse",
        }
    ]
