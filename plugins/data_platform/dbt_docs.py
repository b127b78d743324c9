"""Shows dbt's documentation inside the Airflow UI.

The page is one file that ``write_docs`` leaves in S3. It is sandboxed by its content security policy: a page made from model descriptions
must not act with the reader's Airflow session.
"""

from __future__ import annotations

import logging

from airflow.plugins_manager import AirflowPlugin
from fastapi.responses import HTMLResponse

from data_platform.pages import headers, make_app, message, read_page

log = logging.getLogger(__name__)

KEY = "dbt-docs/index.html"
URL_PREFIX = "/dbt-docs"

# dbt's page has its script, style and data inline. Without allow-same-origin it runs in an origin of its own: no cookies, no API.
_HEADERS = headers(
    "sandbox allow-scripts allow-popups allow-downloads; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:"
)

app = make_app("dbt docs")


@app.get("/index.html")
def index() -> HTMLResponse:
    """The documentation of dbt, or a page that says why there is none."""
    try:
        page = read_page(KEY)
    except Exception as error:
        log.warning("the dbt docs can't be read from S3: %s", error)
        return message(
            "dbt docs", "The documentation can't be read from S3 just now; the api-server's log says why.", 503
        )
    if page is None:
        return message(
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
