"""What RDS and Redshift say about the integration: its stored report, a test's overrides applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from include.local.aurora.integration import ACCOUNT, INTEGRATION_NAME, REGION, TableState
from include.local.tickit.schema import DATABASE

if TYPE_CHECKING:
    from include.local.aurora.replicator import Replicator

SOURCE_ARN: Final = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{INTEGRATION_NAME}"
TARGET_ARN: Final = f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:namespace/0d4a8f2e-5b7c-4c1d-9e3f-6a2b8c7d1e90"

VIEWS: Final = {
    "svv_integration": (
        "integration_id VARCHAR, target_database VARCHAR, source VARCHAR, state VARCHAR, current_lag BIGINT, "
        "last_replicated_checkpoint VARCHAR, total_tables_replicated INTEGER, total_tables_failed INTEGER, "
        "creation_time TIMESTAMP, refresh_interval INTEGER, source_database VARCHAR, is_history_mode BOOLEAN"
    ),
    "svv_integration_table_state": (
        "integration_id VARCHAR, target_database VARCHAR, schema_name VARCHAR, table_name VARCHAR, table_state VARCHAR, "
        "table_last_replicated_checkpoint VARCHAR, reason VARCHAR, last_updated_timestamp TIMESTAMP, "
        "table_rows BIGINT, table_size BIGINT, is_history_mode BOOLEAN"
    ),
    "sys_integration_activity": (
        "integration_id VARCHAR, target_database VARCHAR, source VARCHAR, checkpoint_name VARCHAR, "
        "checkpoint_type VARCHAR, checkpoint_bytes BIGINT, last_commit_timestamp TIMESTAMP, modified_tables VARCHAR, "
        "integration_start_time TIMESTAMP, integration_end_time TIMESTAMP"
    ),
    "sys_integration_table_state_change": (
        "integration_id VARCHAR, database_name VARCHAR, schema_name VARCHAR, table_name VARCHAR, new_state VARCHAR, "
        "table_last_replicated_checkpoint VARCHAR, state_change_reason VARCHAR, record_time TIMESTAMP"
    ),
}
"""Redshift's views of zero-ETL integrations with their columns (Database Developer Guide, one page per view)."""

_RESYNCING: Final = frozenset({TableState.RESYNC_REQUIRED, TableState.RESYNC_INITIATED})


@dataclass(frozen=True)
class Report:
    """The integration's answers at this moment."""

    replicator: Replicator

    @property
    def missing(self) -> bool:
        """Whether the integration is to be reported as not found."""
        return self.replicator.integration.overrides.missing

    def tables(self) -> list[dict[str, Any]]:
        """Table records, with overridden states and reasons; a table overridden to no state is left out."""
        overrides = self.replicator.integration.overrides.tables
        stored = {row["table_name"]: row for row in self.replicator.integration.tables()}
        blank = dict.fromkeys(("checkpoint", "updated_at", "table_rows", "table_size"), None)
        for name, change in overrides.items():
            row = stored.get(name, {**blank, "table_name": name, "is_history_mode": 0})
            stored[name] = {**row, "state": change.get("state"), "reason": change.get("reason") or ""}
        return [row for _, row in sorted(stored.items()) if row["state"]]

    def status(self) -> str:
        """The integration's status in RDS and Redshift's APIs (RDS: IntegrationStatus)."""
        if forced := self.replicator.integration.overrides.status:
            return forced
        states = {row["state"] for row in self.tables()}
        if TableState.FAILED in states:
            return "needs_attention"
        return "syncing" if states & _RESYNCING else "active"

    def errors(self) -> list[dict[str, str]]:
        """The integration's errors in RDS and Redshift's APIs."""
        forced = self.replicator.integration.overrides.errors
        if forced is not None:
            return forced
        return [
            {"ErrorCode": "TableFailed", "ErrorMessage": f"{DATABASE}.{row['table_name']}: {row['reason']}"}
            for row in self.tables()
            if row["state"] == TableState.FAILED
        ]

    def rows(self, view: str) -> list[tuple[Any, ...]]:
        """The rows of one of `VIEWS`."""
        return [] if self.missing else getattr(self, f"_{view}")()

    def _svv_integration(self) -> list[tuple[Any, ...]]:
        integration = self.replicator.integration
        summary, overrides, tables = integration.summary(), integration.overrides, self.tables()
        states = [row["state"] for row in tables]
        connected = summary["target_database"] is not None
        return [
            (
                integration.id,
                summary["target_database"] or "",
                "MySQL",
                overrides.state or summary["state"],
                self.replicator.lag_ms() if overrides.lag_ms is None else overrides.lag_ms,
                summary["checkpoint"],
                states.count(TableState.SYNCED),
                states.count(TableState.FAILED),
                summary["creation_time"],
                0,
                "",
                connected and any(row["is_history_mode"] for row in tables),
            )
        ]

    def _svv_integration_table_state(self) -> list[tuple[Any, ...]]:
        integration = self.replicator.integration
        target = integration.summary()["target_database"]
        fields = ("table_name", "state", "checkpoint", "reason", "updated_at", "table_rows", "table_size")
        return [
            (integration.id, target, DATABASE, *(row[name] for name in fields), bool(row["is_history_mode"]))
            for row in self.tables()
        ]

    def _sys_integration_activity(self) -> list[tuple[Any, ...]]:
        integration = self.replicator.integration
        target = integration.summary()["target_database"]
        return [(integration.id, target, "MySQL", *row.values()) for row in integration.activity()]

    def _sys_integration_table_state_change(self) -> list[tuple[Any, ...]]:
        integration = self.replicator.integration
        target = integration.summary()["target_database"]
        return [
            (
                integration.id,
                target,
                DATABASE,
                row["table_name"],
                row["new_state"],
                row["checkpoint"],
                row["reason"],
                row["record_time"],
            )
            for row in integration.state_changes()
        ]
