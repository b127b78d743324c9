"""Shows the tenant migrations inside the Airflow UI: one page with all of them, a live report of each.

The pages have no script and nothing from elsewhere, and their content security policy lets none run: all that they can do is load
themselves again. What they show of people's words is escaped.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from airflow.plugins_manager import AirflowPlugin
from fastapi.responses import HTMLResponse

from data_platform.pages import headers, make_app, message, read_page

log = logging.getLogger(__name__)

PREFIX: Final = "tenants/migrations"
URL_PREFIX: Final = "/tenant-migrations"
_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]{0,100}$")
_HEADERS: Final = headers("style-src 'unsafe-inline'")

app = make_app("tenant migrations")


@app.get("/")
def index() -> HTMLResponse:
    """All migrations."""
    return _page(f"{PREFIX}/index.html", "No report yet: the next run of report_tenant_migrations writes it.")


@app.get("/{migration_id}")
def report(migration_id: str) -> HTMLResponse:
    """The report of one migration."""
    if not _ID.fullmatch(migration_id):
        return message("Tenant migrations", "Expected a migration's id: letters, digits and dashes.", 404)
    return _page(f"{PREFIX}/{migration_id}/report.html", "No such migration, or it has no report yet.")


def _page(key: str, missing: str) -> HTMLResponse:
    try:
        page = read_page(key)
    except Exception as error:
        log.warning("s3 %s can't be read: %s", key, error)
        return message(
            "Tenant migrations", "The report can't be read from S3 just now; the api-server's log says why.", 503
        )
    if page is None:
        return message("Tenant migrations", missing, 404)
    content, etag = page
    return HTMLResponse(content, headers={**_HEADERS, "ETag": etag})


class TenantMigrationsPlugin(AirflowPlugin):
    """Adds the pages to the menu."""

    name = "tenant_migrations"
    fastapi_apps = [{"name": "tenant migrations", "app": app, "url_prefix": URL_PREFIX}]  # noqa: RUF012 - Airflow's own attribute
    external_views = [  # noqa: RUF012 - Airflow's own attribute
        {
            "name": "Tenant migrations",
            "href": f"{URL_PREFIX}/",
            "destination": "nav",
            "url_route": "tenant-migrations",
            "category": "browse",
        }
    ]
