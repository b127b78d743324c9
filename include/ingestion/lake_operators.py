"""The tasks around the data lake: custom sources, tables, partitions, compaction. Nothing heavy is imported before a task runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.operators import IntakeOperator, add_partitions
from include.ingestion.params import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from include.ingestion.compaction import Compactor, MergeProcess
    from include.ingestion.intake import Intake

log = logging.getLogger(__name__)

MOST_PARTITIONS: Final = 500
"""Partitions that a run compacts; Airflow maps a task over at most 1,024 elements."""
COMPACTED_DAYS: Final = 35
"""Days back that are looked at for small objects, unless somebody asks for another day."""


class RegisterSourcesOperator(IntakeOperator):
    """Makes the custom sources and tables of what the sources' mappings make, where they are missing; gives what was done for each.

    Reads the run's param ``source``.
    """

    def step(self, intake: Intake, context: Context) -> dict[str, str]:
        """Register."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.ingestion.classes import wanted_tables
        from include.ingestion.security_lake import Provider, ensure_custom_sources, ensure_table, find_lake

        settings = intake.settings
        account, role = settings.ingestion_lake_account, settings.ingestion_lake_crawler_role
        if not account or not role:
            raise AirflowFailException(
                "expected the options data_platform.ingestion_lake_account and data_platform.ingestion_lake_crawler_role, found "
                f"{account!r} and {role!r}; set them"
            )
        lake = find_lake(intake.securitylake, settings.ingestion_lake_region)
        if lake != intake.lake:
            raise AirflowFailException(
                f"expected Security Lake's bucket in {lake.region} to be {intake.lake.bucket}, which events are written to, found "
                f"{lake.bucket}; correct data_platform.ingestion_lake_bucket"
            )
        tables = wanted_tables(None if context["params"]["source"] == ALL else str(context["params"]["source"]))
        made = ensure_custom_sources(
            intake.securitylake,
            intake.glue,
            intake.iam,
            [(each.source, each.class_name) for each in tables],
            region=lake.region,
            account_id=account,
            provider=Provider(role, settings.ingestion_lake_principal or account, settings.ingestion_lake_external_id),
        )
        done = {each.name: "made" if each.created else "as wanted" for each in made}
        for table_ in tables:
            if ensure_table(intake.glue, lake, table_.custom_source, table_.columns):
                done[table_.custom_source] += ", table brought up to date"
        for name, what in done.items():
            log.info("%-24s %s", name, what)
        return done


class RegisterPartitionsOperator(IntakeOperator):
    """Tells Glue of the partitions of batches that were published in the last days; gives how many were new.

    Reads the run's params ``source``, ``days``.
    """

    def step(self, intake: Intake, context: Context) -> dict[str, int]:
        """Register."""
        from include.ingestion.ledger import BatchState, day_of
        from include.ingestion.params import known_sources

        params, now = context["params"], intake.ledger.clock()
        sources = known_sources() if params["source"] == ALL else [str(params["source"])]
        added: dict[str, int] = {}
        without: set[str] = set()
        for source in sources:
            for back in range(int(params["days"])):
                batches = intake.ledger.batches(source, day_of(now - back * 86400))
                some, none = add_partitions(intake, [each for each in batches if each.state == BatchState.PUBLISHED])
                without |= set(none)
                for name, n in some.items():
                    added[name] = added.get(name, 0) + n
        if without:
            log.warning("no table for %s: the sources' classes.json lacks their classes", ", ".join(sorted(without)))
        return added


class FindPartitionsOperator(IntakeOperator):
    """Finds partitions of the lake with small objects of days that are over; gives one element for each.

    Reads the run's params ``source``, ``oldest_day``, ``grace_hours``.
    """

    def step(self, intake: Intake, context: Context) -> list[dict[str, str]]:
        """Look."""
        from dataclasses import asdict

        from include.ingestion.classes import wanted_tables
        from include.ingestion.compaction import MergeProcess
        from include.ingestion.ledger import day_of

        params = context["params"]
        oldest = (params.get("oldest_day") or "").replace("-", "")
        if not oldest:
            oldest = day_of(intake.ledger.clock() - COMPACTED_DAYS * 86400)
        tables = wanted_tables(None if params["source"] == ALL else str(params["source"]))
        compactor = compactor_for(intake, context, MergeProcess())
        found = compactor.find([each.custom_source for each in tables], oldest)
        log.info("%d partitions since %s have small objects, or something that was begun", len(found), oldest)
        if len(found) > MOST_PARTITIONS:
            log.warning("that is more than the %d of one run; the others are left to the next one", MOST_PARTITIONS)
        return [asdict(each) for each in found[:MOST_PARTITIONS]]


class CompactPartitionOperator(IntakeOperator):
    """Merges the small objects of a partition; gives what was done.

    Args:
        partition: an element of what `FindPartitionsOperator` gives.
    """

    template_fields: Sequence[str] = ("partition",)

    def __init__(self, *, partition: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partition: Any = partition
        self._merger: MergeProcess | None = None

    def on_kill(self) -> None:
        """Stop the process that merges."""
        if self._merger is not None:
            self._merger.terminate()

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Compact."""
        from include.ingestion.compaction import MergeProcess
        from include.ingestion.security_lake import LakePartition

        self._merger = MergeProcess()
        report = compactor_for(intake, context, self._merger).compact(LakePartition(**self.partition))
        names = ("merged", "inputs", "rows", "bytes_before", "bytes_after", "resumed")
        told = {name: getattr(report, name) for name in names}
        log.info("%s: %s", report.partition.prefix, ", ".join(f"{name} {value}" for name, value in told.items()))
        return {**self.partition, **told}


def compactor_for(intake: Intake, context: Context, merger: MergeProcess) -> Compactor:
    """What compacts the lake, as the run's param ``grace_hours`` says."""
    from functools import cache

    from include.ingestion.compaction import CompactionLimits, Compactor
    from include.ingestion.exceptions import BatchUnknown
    from include.ingestion.ledger import BatchState

    @cache
    def is_settled(batch_id: str) -> bool:
        try:
            return intake.ledger.batch(batch_id).state == BatchState.PUBLISHED
        except BatchUnknown:  # then nobody can ask for its objects
            return True

    ti: Any = context["ti"]
    grace = float(context["params"]["grace_hours"])
    work = intake.settings.scratch_dir / "compaction"
    work.mkdir(parents=True, exist_ok=True)
    return Compactor(
        intake.s3,
        intake.ledger.dynamodb,
        intake.lake.bucket,
        intake.ledger.table,
        merger,
        f"{ti.dag_id}/{ti.run_id}/{ti.task_id}[{ti.map_index}]",
        work,
        CompactionLimits(grace_hours=grace, quiet_hours=grace),
        lambda key: is_settled(key.batch_id),
    )
