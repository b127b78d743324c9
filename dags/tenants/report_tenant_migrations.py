"""### Report tenant migrations

Says where every migration is: a page with all of them, and a warning for each that somebody should look at. Opens fences whose time is
over.

**Starts** every hour, and by hand.

**Inputs** the migrations' records.

**Outputs** `tenants/migrations/index.html` and `.json` in the platform's bucket (*Browse* → *Tenant migrations*); the table in the log of
`report_all` and in the run's note.

#### Triage
- `report_all` fails with *need somebody*: the message names migrations, what each waits for (a soak that is long over, an end that is not
  archived, …) and what to do. Do it only if no task of that migration is running or waiting. The audit trail in its report names the run
  of `migrate_tenant`.
- A fence whose run has left it is opened here, and told in the log; writes went on when its time was over.
- `rollback_tenant_migration` ends what has not switched; in SWITCHED and SOAK it moves the tenant back.
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
