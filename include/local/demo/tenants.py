"""The demo's tenant part: a tenant moves from a pooled tier to one of its own while its clients write, and not one write is lost."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from include.local.demo.questions import answer
from include.local.demo.runs import DemoError
from include.local.saas.client import HttpApi
from include.local.saas.clients import clients_at
from include.local.saas.judge import judge_tables
from include.local.saas.load import Load
from include.local.saas.logins import LOGINS, login_of
from include.platform.airflow_api import trigger_dag
from include.tenants.operators import migration_id
from include.tenants.questions import APPROVE
from include.tenants.report import key
from include.tenants.saas import TENANTS

if TYPE_CHECKING:
    from include.local.demo.runs import Runs
    from include.local.layout import Layout
    from include.tenants.clients import Clients

DAG: Final = "migrate_tenant"
WAY: Final = {"acme": "Platinum"}
"""The tenant that moves, and where to."""
REASON: Final = "They have outgrown the shared tables"
_BEFORE_SECONDS: Final = 2.0
"""How long the tenant's clients write before and after the migration."""


def run_tenants(runs: Runs, layout: Layout) -> dict[str, Any]:
    """Move a tenant under load and show its report.

    Raises:
        DemoError: a write was lost, or the tenant isn't where it should be.
    """
    [(tenant_id, tier)] = WAY.items()
    clients = clients_at(f"http://127.0.0.1:{runs.ports['aws']}")
    if _tier(clients, tenant_id) == tier:
        raise DemoError(f"{tenant_id} is in {tier} already: `make down`, and try again")
    journal = layout.root / "saas" / f"journal-{uuid.uuid4().hex[:8]}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    api = HttpApi(
        f"http://127.0.0.1:{runs.ports['saas']}", clients, {tenant_id: login_of(layout.aws / LOGINS, tenant_id)}
    )
    with Load([api], [tenant_id], journal=journal, writers=2, readers=1, pause=0.1) as load:
        time.sleep(_BEFORE_SECONDS)
        run_id = f"demo__{uuid.uuid4().hex[:8]}"
        conf = {"tenant_id": tenant_id, "target_tier": tier, "why": REASON, "soak_minutes": 0}
        trigger_dag(runs.api, DAG, run_id, conf)
        print(f"  {tenant_id} moves to {tier} while its clients write; a person approves")
        answer(runs.api, DAG, run_id, "approve_cutover", APPROVE, "Verified, and it is a quiet hour", timeout=420)
        runs.follow(DAG, run_id, timeout=420)
        time.sleep(_BEFORE_SECONDS)
    report = _report(clients, migration_id(tenant_id, run_id))
    verdict = judge_tables(journal, clients)
    figures = load.figures(tenant_id)
    _show(report, figures.to_json(), verdict.acknowledged, verdict.lost + verdict.stale)
    if not verdict.ok:
        raise DemoError(f"expected every acknowledged write to be there, found {verdict}")
    if _tier(clients, tenant_id) != tier or report["outcome"] != "COMPLETE":
        raise DemoError(f"expected {tenant_id} in {tier} and its migration COMPLETE, found {report['outcome']}")
    return {
        "tenant": tenant_id,
        "from": report["from"],
        "to": tier,
        "migration": report["migration_id"],
        "items": report["verification"]["items"],
        "acknowledged_writes": verdict.acknowledged,
        "lost_writes": verdict.lost,
        "stale_writes": verdict.stale,
        "foreign_items": verdict.foreign,
        "failed_reads": figures.failed_reads,
        "write_unavailable_seconds": report["write_unavailable_seconds"],
        "longest_gap_of_a_client_seconds": figures.to_json()["gap_seconds"],
        "cost_dollars": report["cost"]["dollars"],
        "evidence": report["evidence"]["uri"],
        "report": f"http://127.0.0.1:{runs.ports['api-server']}/tenant-migrations/{report['migration_id']}",
        "run": f"/dags/{DAG}/runs/{quote(run_id, safe='')}",
    }


def _show(report: dict[str, Any], figures: dict[str, Any], acknowledged: int, lost: int) -> None:
    print(f"\nTenant {report['tenant_id']}: {report['from']} -> {report['to']}, {report['outcome']}")
    print(f"  copied     {report['copy']['items']:,} items, {report['copy']['bytes'] / 1e6:,.1f} MB")
    for direction, told in report["replay"].items():
        print(f"  replayed   {told['applied']:,} changes {direction}")
    print(f"  compared   {report['verification']['summary']}")
    print(f"  approved   by {report['approval']['by']}: {report['approval']['why']}")
    print(f"  no writes  for {report['write_unavailable_seconds']:.2f} s; reads that failed: {figures['failed_reads']}")
    print(f"  users      {json.dumps(report['identity'])}")
    print(f"  evidence   {report['evidence']['uri']}, locked until {report['evidence']['locked_until']}")
    print(f"  {lost} of {acknowledged:,} acknowledged writes lost")


def _report(clients: Clients, name: str) -> dict[str, Any]:
    body = clients.s3.get_object(Bucket="data-platform", Key=key(name, "json"))["Body"]
    with contextlib.closing(body):
        report: dict[str, Any] = json.loads(body.read())
    return report


def _tier(clients: Clients, tenant_id: str) -> str:
    row = clients.dynamodb.get_item(TableName=TENANTS, Key={"tenantId": {"S": tenant_id}}, ConsistentRead=True)
    tier: str = row["Item"]["tenantTier"]["S"]
    return tier
