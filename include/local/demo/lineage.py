"""The demo's look at the catalog: one column's way from the source to the report, and what was delivered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from include.local.catalog.identity import DOMAIN_ID, REGION
from include.local.catalog.walk import Walker
from include.local.demo.runs import DemoError
from include.platform.airflow_settings import load_airflow_settings
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from include.local.demo.runs import Runs

REPORT, COLUMN = "rpt_finance_qtr_total_sales_by_event", "sales_revenue"


def catalog_client(runs: Runs) -> Any:
    """A client of the catalog stand-in."""
    import boto3

    url = f"http://127.0.0.1:{runs.ports['catalog']}"
    return boto3.client(
        "datazone", endpoint_url=url, region_name=REGION, aws_access_key_id="local", aws_secret_access_key="local"
    )


def report_identifier(relation: str) -> str:
    """The name that a published relation has in the catalog, from the connection of the laptop's warehouse."""
    from data_platform.lineage.naming import Naming

    settings = load_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
    [stands_for] = [spec.extra["stands_for"] for spec in settings.connections if "stands_for" in spec.extra]
    naming = Naming.from_properties({"account_id": "0" * 12, "region": REGION, "view_schemas": ["finance"]})
    namespace = f"redshift://{stands_for['host']}:{stands_for['port']}"
    name = f"{stands_for['database']}.finance.{relation}"
    return naming.arn(namespace, name) or f"{namespace}/{name}"


def shown_name(identifier: str) -> tuple[str, str]:
    """Where a dataset is, and its name, short enough for a terminal."""
    if not identifier.startswith("arn:"):
        scheme, _, rest = identifier.partition("://")
        return scheme, rest.partition("/")[2]
    kind, _, *name = identifier.split(":", 5)[5].split("/")
    return f"{identifier.split(':')[2].partition('-')[0]} {kind}", ".".join(name)


def column_path(client: Any, identifier: str, column: str) -> list[tuple[str, str]]:
    """One way from a published column back to a column of the source, the source first."""
    way = Walker(client, DOMAIN_ID, direct=True).trace(identifier, column)[0]
    return [(step.dataset, step.column) for step in reversed(way)]


def run_lineage(runs: Runs) -> dict[str, Any]:
    """Show a column's path, the score at the report's asset, and that every lineage event arrived.

    Raises:
        DemoError: the path doesn't begin at the source, or an event is missing.
    """
    client, identifier = catalog_client(runs), report_identifier(REPORT)
    path = column_path(client, identifier, COLUMN)
    print(f"\nLineage of {REPORT}.{COLUMN} in the catalog")
    for position, (dataset, column) in enumerate(path):
        where, relation = shown_name(dataset)
        print(f"  {'  ' if position == 0 else '→ '}{where:22} {relation}.{column}")
    if shown_name(path[0][0])[1] != "demodb.sales":
        raise DemoError(f"expected the path to begin at demodb.sales in the source, found {path[0][0]}")
    scores = posted_scores(client, identifier)
    print(f"Its asset in the catalog: {len(scores)} quality scores, the last {scores[-1] if scores else 'none'} %")
    runs.run("reconcile_lineage")
    delivery = delivered(runs)
    print(f"Lineage delivered: {delivery['spooled']} events spooled = {delivery['accepted']} accepted", end="")
    print(f" + {delivery['rejected']} rejected + {delivery['pending']} pending")
    if delivery["rejected"]:
        raise DemoError(f"expected the catalog to take every lineage event, found {delivery}")
    return {
        "column_path": [{"dataset": dataset, "column": column} for dataset, column in path],
        "scores": scores,
        "delivery": delivery,
    }


def posted_scores(client: Any, identifier: str) -> list[float]:
    """The quality scores of a relation's asset, the oldest first."""
    found = client.search(
        domainIdentifier=DOMAIN_ID,
        searchScope="ASSET",
        searchText=identifier,
        additionalAttributes=["FORMS"],
    )["items"]
    assets = [item["assetItem"] for item in found if item["assetItem"].get("externalIdentifier") == identifier]
    if len(assets) != 1:
        raise DemoError(f"expected one asset with the identifier {identifier}, found {len(assets)}")
    form = f"soda_{REPORT.removeprefix('rpt_finance_')}"
    points: list[dict[str, Any]] = []
    for page in client.get_paginator("list_time_series_data_points").paginate(
        domainIdentifier=DOMAIN_ID,
        entityIdentifier=assets[0]["identifier"],
        entityType="ASSET",
        formName=form,
    ):
        points += page["items"]
    points.sort(key=lambda point: point["timestamp"])
    whole = [  # the list has summaries
        client.get_time_series_data_point(
            domainIdentifier=DOMAIN_ID,
            entityIdentifier=assets[0]["identifier"],
            entityType="ASSET",
            formName=form,
            identifier=point["id"],
        )["form"]
        for point in points
    ]
    return [json.loads(point["content"])["passingPercentage"] for point in whole]


def delivered(runs: Runs) -> dict[str, Any]:
    """What the last run of ``reconcile_lineage`` has counted."""
    run_id = runs.finished[-1].run_id
    path = f"/dags/reconcile_lineage/dagRuns/{run_id}/taskInstances/reconcile_events/xcomEntries/return_value"
    value = runs.api.request("GET", path)["value"]
    counts: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return counts
