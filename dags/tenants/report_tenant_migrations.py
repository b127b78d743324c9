"""### Report tenant migrations

Says where every migration is: a page with all of them, and a warning for each that somebody should look at. Opens fences whose time is
over.

**Starts** every hour, and by hand.

**Inputs** the migrations' records.

**Outputs** `tenants/migrations/index.html` and `.json` in the platform's bucket (*Tenant migrations* in the menu); the table in the log of
`report_all` and in the run's note.

#### Triage
- `report_all` fails with *needs somebody*: the message names migrations and what each waits for: a fence that its run has left, a soak
  that is long over, an end that is not archived. The runs of `migrate_tenant` have the tasks to clear; `rollback_tenant_migration` ends
  any of them.
- It fails otherwise: the record can't be read. Look at the connection `aws_tenants`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.tenants.operators import ReportAllOperator


@dag(
    schedule="@hourly",
    doc_md=__doc__,
    **dag_defaults(
        owner="tenants",
        tags=[Tag.TENANTS, Tag.MIGRATION],
        deadline=timedelta(minutes=30),
    ),
)
def report_tenant_migrations() -> None:
    ReportAllOperator(task_id="report_all")


report_tenant_migrations()
