"""### Finish tenant identity

Ends the time in which users of moved tenants bring their passwords along: imports those who have not signed in since, without passwords,
and stops asking the old user pool.

**Starts** every day, for each migration whose deadline has passed; by hand for one tenant, before its deadline if need be.

**Inputs** the migrations' records; both user pools of each.

**Outputs** every user of the old pool in the new one; those who were imported must choose a new password (`RESET_REQUIRED`). Figures in
the migration's report.

#### Triage
Nobody is locked out while it is red: users who have not moved are still asked for at the old pool.
- `find_due` is empty and `finish` skipped: no deadline has passed.
- `find_due` fails with *found none*: run by hand for a tenant none of whose users is on the way. The message names why that may be;
  *Browse* → *Tenant migrations* says which.
- `finish` fails with *expected the import … to succeed*: the message names what Cognito's import job says of it. Mend the users in the old
  pool, clear it.
- `finish` fails with *expected the users of … to be those of …*: the message names users who are missing in the new pool, or who are not
  as in the old one. Somebody else's user or claim: find out who made it before anything else. Mend them, clear it.
- Users write that they were asked for a new password: they had not signed in before the deadline. That is as planned.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from include.platform.policy import dag_defaults
from include.platform.tags import Tag
from include.tenants.operators import FindDueOperator, FinishIdentityOperator
from include.tenants.saas import TENANT_ID


@dag(
    schedule="@daily",
    doc_md=__doc__,
    params={
        "tenant_id": Param(
            None,
            type=["null", "string"],
            pattern=TENANT_ID.pattern,
            title="Tenant",
            description="Finish this tenant's now, whatever its deadline. Empty: all whose deadline has passed.",
        )
    },
    **dag_defaults(
        owner="tenants",
        tags=[Tag.TENANTS, Tag.MIGRATION],
        deadline=timedelta(hours=4),
    ),
)
def finish_tenant_identity() -> None:
    find_due = FindDueOperator(task_id="find_due")
    FinishIdentityOperator.partial(task_id="finish").expand(migration=find_due.output)


finish_tenant_identity()
