"""The tasks of the ingestion. Each is a step of the intake; nothing heavy is imported before a task runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.branch import BranchMixIn
from airflow.sdk import BaseOperator

from include.ingestion.params import ALL
from include.platform.assets import INGESTION_ARRIVALS, INGESTION_WAITING, SECURITY_LAKE_SOURCES, security_lake_asset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context, XComArg

    from include.ingestion.intake import Intake
    from include.ingestion.ledger import Batch
    from include.ingestion.processors import EngineProcessor
    from include.ingestion.receive import ReceiveReport

log = logging.getLogger(__name__)

MOST_READERS: Final = 4
"""Tasks that share a stream's shards."""


class IntakeOperator(BaseOperator):
    """A step of the intake.

    What a retry can't mend fails the task for good: a refused batch, counts that don't add up, an unknown batch, records that are gone from
    a stream, dead letters that can't be read, bad input.
    """

    ui_color = "#e3f1df"

    def execute(self, context: Context) -> Any:
        """Take the step.

        Raises:
            AirflowFailException: it failed, and no retry can help.
        """
        from airflow.sdk.exceptions import AirflowFailException

        from include.ingestion import exceptions
        from include.ingestion.compaction import CompactionConflict, SchemasDiffer
        from include.ingestion.sources import SourceError

        try:
            return self.step(self.intake(), context)
        except (
            exceptions.BatchRefused,
            exceptions.BatchConflict,
            exceptions.BatchUnknown,
            exceptions.CountsDiffer,
            exceptions.DeadLettersUnreadable,
            exceptions.OutputLost,
            exceptions.StreamTrimmed,
            CompactionConflict,
            SchemasDiffer,
            SourceError,
        ) as error:
            raise AirflowFailException(str(error)) from error

    def intake(self) -> Intake:
        """What the step works with, as connection and settings say."""
        from include.ingestion.intake import Intake

        return Intake()

    def step(self, intake: Intake, context: Context) -> Any:
        """What the task is for."""
        raise NotImplementedError


class ReceiveOperator(IntakeOperator, BranchMixIn):
    """Puts what the queue or a listing tells of into the ledger; gives the numbers. Sources with nothing to plan are skipped.

    Reads the run's params: ``day``, ``prefix`` (both list), ``source``, ``flush``.

    Args:
        plan_task_ids: the task that plans batches, by source.
    """

    inherits_from_skipmixin = True

    def __init__(self, *, plan_task_ids: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan_task_ids = dict(plan_task_ids)

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Receive."""
        params = context["params"]
        by_queue = intake.settings.ingestion_queue_url and not params.get("day") and not params.get("prefix")
        told = self._take(intake) if by_queue else self._list(intake, params)
        told["plans"] = [self.plan_task_ids[source] for source in self._ready(intake, params)]
        context["ti"].xcom_push(key="return_value", value=told)  # skipping ends the task before it can return anything
        self.do_branch(context, told["plans"])
        return told

    def _take(self, intake: Intake) -> dict[str, Any]:
        from include.ingestion.receive import ReceiveLimits, receive_queue

        report = receive_queue(
            intake.sqs,
            intake.s3,
            intake.ledger,
            intake.settings.ingestion_queue_url,
            intake.route,
            dead_letter_bucket=intake.settings.ingestion_bucket,
            limits=ReceiveLimits(wait_seconds=1),  # the doorbell rings again
        )
        return _received("the queue", [report])

    def _list(self, intake: Intake, params: Mapping[str, Any]) -> dict[str, Any]:
        from include.ingestion.receive import receive_listing

        since, until = _day_bounds(params.get("day"))
        prefix = params.get("prefix") or intake.settings.ingestion_list_prefix
        source = None if params.get("source", ALL) == ALL else str(params["source"])
        reports = [
            receive_listing(
                intake.s3, intake.ledger, bucket, prefix, intake.route, source=source, since=since, until=until
            )
            for bucket in intake.raw_buckets
        ]
        return _received(f"a listing of {', '.join(intake.raw_buckets)} below {prefix or 'the root'}", reports)

    def _ready(self, intake: Intake, params: Mapping[str, Any]) -> list[str]:
        from include.ingestion.intake import has_work

        wanted, flush = params.get("source", ALL), bool(params.get("flush", False))
        return [
            source
            for source in self.plan_task_ids
            if wanted in (ALL, source) and has_work(intake.ledger, source, flush=flush)
        ]


def _day_bounds(day: str | None) -> tuple[datetime | None, datetime | None]:
    if not day:
        return None, None
    since = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return since, since + timedelta(days=1)


def _received(where: str, reports: Sequence[ReceiveReport]) -> dict[str, Any]:
    names = ("messages", "new", "known", "unrouted", "removed", "tests", "kept")
    told: dict[str, Any] = {name: sum(getattr(report, name) for report in reports) for name in names}
    faults: dict[str, int] = {}
    for report in reports:
        for reason, n in report.faults.items():
            faults[reason] = faults.get(reason, 0) + n
    told["faults"] = faults
    log.info("from %s: %s", where, ", ".join(f"{name} {value}" for name, value in told.items()))
    if faults or told["unrouted"]:
        log.warning("notices that can't be read: %s; objects that no source takes: %d", faults or 0, told["unrouted"])
    return told


class PlanBatchesOperator(IntakeOperator):
    """Groups what waits of a source into batches; gives the ids of all that are to be ingested, earlier ones too.

    Reads the run's param ``flush``.

    Args:
        source: whose.
    """

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def step(self, intake: Intake, context: Context) -> list[str]:
        """Plan."""
        from include.ingestion.batches import plan
        from include.ingestion.intake import batch_limits

        ledger, flush = intake.ledger, bool(context["params"].get("flush", False))
        planned = plan(self.source, ledger, batch_limits(self.source), ledger.clock(), flush=flush)
        log.info("%s: %d batches to ingest, %d of them new", self.source, len(planned.batches), len(planned.new))
        if planned.full:
            log.warning(
                "%s: more waits than may be planned at once; it is planned when these batches are published",
                self.source,
            )
        return list(planned.batches)


class IngestBatchOperator(IntakeOperator):
    """Brings a batch to its end; gives its counts. Each custom source of the lake that it added to gets an asset event.

    Then Glue is told of new partitions; a custom source without a table yet is left to `register_security_lake_sources`.

    Args:
        batch_id: of the batch.
    """

    template_fields: Sequence[str] = ("batch_id",)

    def __init__(self, *, batch_id: str | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_id: Any = batch_id  # rendered to a text before the task runs
        self._engine: EngineProcessor | None = None

    def on_kill(self) -> None:
        """Stop the engine and what it started."""
        if self._engine is not None:
            self._engine.terminate()

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Ingest."""
        from include.ingestion.processors import EngineProcessor

        self._engine = EngineProcessor(intake.settings.ingestion_lake_region)
        batch = intake.ingestion(self._engine, self.batch_id).ingest(self.batch_id)
        self._tell(intake, context, batch)
        _, without = add_partitions(intake, [batch])
        if without:
            log.warning(
                "no table for %s; register_security_lake_sources makes it and adds partitions", ", ".join(without)
            )
        return counts_of(batch)

    @staticmethod
    def _tell(intake: Intake, context: Context, batch: Batch) -> None:
        from include.catalog.dbt_lineage import emit_events
        from include.ingestion.lineage import batch_events, custom_sources
        from include.ingestion.sources import load_source

        settings = intake.settings
        uploads = intake.ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, [])
        events = context["outlet_events"][SECURITY_LAKE_SOURCES]
        for name, extra in custom_sources(batch, uploads).items():
            events.add(security_lake_asset(name), extra=extra)
        emit_events(
            context,
            lambda task: batch_events(
                task,
                batch,
                intake.ledger,
                lake_bucket=settings.ingestion_lake_bucket,
                dead_letter_bucket=settings.ingestion_bucket,
                allowed_share=load_source(batch.source).limits.dead_letter_share,
            ),
        )


def counts_of(batch: Batch) -> dict[str, Any]:
    """A batch's counts, small enough for XCom."""
    counts = batch.counts
    return {
        "batch": batch.batch_id,
        "source": batch.source,
        "state": str(batch.state),
        "objects": batch.objects,
        "gone": counts.gone,
        "read": counts.read,
        "written": counts.written,
        "set_aside": counts.set_aside,
        "classes": dict(counts.classes),
        "reasons": dict(counts.reasons),
    }


class SummariseOperator(IntakeOperator):
    """Says what became of the batches that the run has planned, as the ledger has it.

    It runs whatever has become of the tasks before it, and so decides whether the run has succeeded.

    Args:
        receive_task_id: the task that received and chose what to plan.

    Raises:
        AirflowFailException: a task before it has failed, or some batches aren't published.
    """

    def __init__(self, *, receive_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.receive_task_id = receive_task_id

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Look."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.ingestion.ledger import BatchState
        from include.platform.run_page import write_note

        ti: Any = context["ti"]
        received = ti.xcom_pull(task_ids=self.receive_task_id)
        if received is None:
            raise AirflowFailException(f"expected {self.receive_task_id} to have succeeded; its log says why not")
        plans = {task_id: ti.xcom_pull(task_ids=task_id) for task_id in received["plans"]}
        if failed := [task_id for task_id, planned in plans.items() if planned is None]:
            raise AirflowFailException(f"expected {', '.join(failed)} to have succeeded; their logs say why not")
        batches = [intake.ledger.batch(batch_id) for planned in plans.values() for batch_id in planned]
        summary = summarise(batches)
        for line in table(summary):
            log.info("%s", line)
        total = summary["total"]
        if batches:
            told = (
                f"{total['read']:,} records read = {total['written']:,} written + {total['set_aside']:,} set aside, "
                f"in {len(batches)} batches"
            )
            write_note(context, lambda most: told[:most])
        left = [each for each in batches if each.state != BatchState.PUBLISHED]
        if left:
            named = ", ".join(f"{each.batch_id} of {each.source} ({each.state})" for each in left[:10])
            raise AirflowFailException(
                f"expected {len(batches)} batches to be published, found {len(left)} that are not: {named}; their tasks say why. Nothing "
                "of them is in the lake"
            )
        return summary


def add_partitions(intake: Intake, batches: Sequence[Batch]) -> tuple[dict[str, int], list[str]]:
    """Tell Glue of the partitions of published batches.

    Returns:
        How many were added to each custom source; custom sources without a table.
    """
    from include.ingestion.intake import partitions_of
    from include.ingestion.security_lake import LakePartition, TableConflict, ensure_partitions

    wanted: dict[str, set[LakePartition]] = {}
    for batch in batches:
        uploads = intake.ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, [])
        for partition in partitions_of(batch, uploads):
            wanted.setdefault(partition.custom_source, set()).add(partition)
    added: dict[str, int] = {}
    without: list[str] = []
    for name, partitions in sorted(wanted.items()):
        try:
            added[name] = ensure_partitions(intake.glue, intake.lake, name, partitions)
        except TableConflict as error:
            log.debug("%s", error)
            without.append(name)
    for name, n in added.items():
        log.info("%s: %d of %d partitions are new", name, n, len(wanted[name]))
    return added, without


def summarise(batches: Sequence[Batch]) -> dict[str, Any]:
    """Counts by source and in all; those of batches that aren't published don't count."""
    from include.ingestion.ledger import BatchState

    def empty() -> dict[str, Any]:
        return {"batches": 0, "objects": 0, "read": 0, "written": 0, "set_aside": 0, "classes": {}, "reasons": {}}

    sources: dict[str, dict[str, Any]] = {}
    total = empty()
    for batch in batches:
        if batch.state != BatchState.PUBLISHED:
            continue
        for told in (sources.setdefault(batch.source, empty()), total):
            told["batches"] += 1
            told["objects"] += batch.objects
            for name in ("read", "written", "set_aside"):
                told[name] += getattr(batch.counts, name)
            for name in ("classes", "reasons"):
                for key, n in getattr(batch.counts, name).items():
                    told[name][key] = told[name].get(key, 0) + n
    return {"sources": dict(sorted(sources.items())), "total": total}


def table(summary: Mapping[str, Any]) -> list[str]:
    """A summary as lines of text."""
    lines = [f"{'source':24} {'class or reason':28} {'records':>12}"]
    for source, told in summary["sources"].items():
        lines += [f"{source:24} {name:28} {n:12,}" for name, n in sorted(told["classes"].items())]
        lines += [f"{source:24} {'set aside: ' + name:28} {n:12,}" for name, n in sorted(told["reasons"].items())]
        lines.append(
            f"{source:24} {told['read']:,} read = {told['written']:,} written + {told['set_aside']:,} set aside, {told['objects']} objects"
        )
    return lines


def tell_arrivals(context: Context, extra: Mapping[str, Any]) -> None:
    """Wake `ingest_security_logs`: something waits for a batch."""
    context["outlet_events"][INGESTION_ARRIVALS].add(INGESTION_WAITING, extra=dict(extra))


class FindReadersOperator(IntakeOperator):
    """Finds the streams that sources come by, and how many tasks share each one's shards; gives one element for each such task.

    Reads the run's params: ``source``; ``accept_gap`` and ``why``, by which an operator lets a shard go on whose records are gone.

    Raises:
        AirflowFailException: a gap is to be accepted, and the source or the reason is missing.
    """

    def step(self, intake: Intake, context: Context) -> list[dict[str, Any]]:
        """Look."""
        from include.ingestion.sources import all_sources

        wanted = context["params"].get("source", ALL)
        if context["params"].get("accept_gap"):
            self._accept_gap(intake, context)
        readers: list[dict[str, Any]] = []
        for source in all_sources():
            if source.stream.name is None or wanted not in (ALL, source.name):
                continue
            shards = _open_shards(intake.kinesis, source.stream.name)
            log.info("%s: stream %s has %d shards to read", source.name, source.stream.name, shards)
            readers += [
                {"source": source.name, "stream": source.stream.name, "reader": number}
                for number in range(min(shards, MOST_READERS))
            ]
        return readers

    @staticmethod
    def _accept_gap(intake: Intake, context: Context) -> None:
        from airflow.sdk.exceptions import AirflowFailException

        from include.ingestion.kinesis import StreamIntake
        from include.ingestion.sources import load_source

        params, ti = context["params"], context["ti"]
        stream = None if params["source"] == ALL else load_source(params["source"]).stream.name
        if stream is None or not params.get("why"):
            raise AirflowFailException(
                f"expected a source with a stream and a reason to accept a gap of {params['accept_gap']}, found source "
                f"{params['source']!r} and reason {params.get('why')!r}"
            )
        run: Any = context["dag_run"]
        why = f"{getattr(run, 'triggering_user_name', None) or 'nobody known'}: {params['why']}"
        owner, bucket = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}", intake.settings.ingestion_bucket
        lease = StreamIntake(
            intake.kinesis, intake.s3, intake.ledger, stream, params["source"], bucket, owner
        ).accept_gap(params["accept_gap"], why=why)
        log.warning("stream %s, %s: the gap is accepted: %s", stream, lease.shard, lease.gap.splitlines()[-1])


def _open_shards(kinesis: Any, stream: str) -> int:
    """How many shards a stream lists; 0 if there is no such stream."""
    shards, request = 0, {"StreamName": stream}
    while True:
        try:
            answer = kinesis.list_shards(**request)
        except kinesis.exceptions.ResourceNotFoundException:
            log.warning("expected the stream %s, found none; it is left out. Make it, or correct stream.name", stream)
            return 0
        shards += len(answer["Shards"])
        if not answer.get("NextToken"):
            return shards
        request = {"NextToken": answer["NextToken"]}


class ReadStreamOperator(IntakeOperator):
    """Reads shards of a stream that nobody else reads, for a limited time; what it lands waits for a batch from then on.

    Args:
        reader: an element of what `FindReadersOperator` gives.
        seconds: begin no further landing object after this.
    """

    template_fields: Sequence[str] = ("reader",)

    def __init__(self, *, reader: Any, seconds: float = 120.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reader: Any = reader
        self.seconds = seconds

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Read."""
        from include.ingestion.kinesis import StreamIntake, StreamLimits

        ti: Any = context["ti"]
        report = StreamIntake(
            intake.kinesis,
            intake.s3,
            intake.ledger,
            stream=self.reader["stream"],
            source=self.reader["source"],
            bucket=intake.settings.ingestion_bucket,
            owner=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}[{ti.map_index}]",  # the same for each try
            limits=StreamLimits(seconds=self.seconds),
        ).read()
        told = {name: getattr(report, name) for name in ("records", "bytes", "objects")}
        told |= {name: list(getattr(report, name)) for name in ("finished", "taken", "throttled")}
        log.info("stream %s: %s", self.reader["stream"], ", ".join(f"{name} {value}" for name, value in told.items()))
        if report.objects:
            tell_arrivals(context, {"source": self.reader["source"], "objects": report.objects})
        return {**self.reader, **told}


class ReplayDeadLettersOperator(IntakeOperator):
    """Lets dead letters come in again, each once; gives how many by reason.

    Reads the run's params: ``source``, ``reason``, ``day`` or ``batch``, ``dry_run``.
    """

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Replay, or say what would be."""
        from airflow.sdk.exceptions import AirflowFailException

        from include.ingestion import replaying
        from include.ingestion.dead_letters import replay

        params = context["params"]
        day, batch = params.get("day"), params.get("batch")
        if bool(day) == bool(batch):
            raise AirflowFailException(f"expected a day or a batch, found day {day!r} and batch {batch!r}")
        reason = params.get("reason")
        arguments: dict[str, Any] = {
            "day": day.replace("-", "") if day else None,
            "batch_id": batch or None,
            "reasons": [reason] if reason else None,
            "work": replaying.work_folder(intake.settings.scratch_dir),
        }
        source = str(params["source"])
        if params["dry_run"]:
            found = replaying.preview(intake.s3, intake.ledger, source, **arguments)
        else:
            bucket = intake.settings.ingestion_bucket
            self._plan(
                intake, source
            )  # what waits, so that it does not get into one batch with records that may fail again
            found = replay(intake.s3, intake.ledger, source, landing_bucket=bucket, **arguments)
            self._plan(intake, source)
        reasons = dict(sorted(found.reasons.items()))
        what = "would be replayed" if params["dry_run"] else "replayed"
        log.info("%d dead letters of %s %s, in %d objects", found.records, source, what, found.objects)
        for name, n in reasons.items():
            log.info("  %-24s %d", name, n)
        if found.records and not params["dry_run"]:
            tell_arrivals(context, {"source": source, "objects": found.objects})
        return {"records": found.records, "objects": found.objects, "reasons": reasons}

    @staticmethod
    def _plan(intake: Intake, source: str) -> None:
        from include.ingestion.batches import plan
        from include.ingestion.intake import batch_limits

        plan(source, intake.ledger, batch_limits(source), intake.ledger.clock(), flush=True)


class ReleaseBatchOperator(IntakeOperator):
    """Lets a batch that was refused, or whose uploads are lost, be ingested again.

    Reads the run's params: ``batch``, ``action`` (``retry``, ``accept``, ``reopen``), ``why``.
    """

    def step(self, intake: Intake, context: Context) -> dict[str, Any]:
        """Release."""
        from include.ingestion.processors import EngineProcessor

        params = context["params"]
        batch_id, action = str(params["batch"]), str(params["action"])
        ingestion = intake.ingestion(EngineProcessor(intake.settings.ingestion_lake_region), batch_id)
        accept = action == "accept"
        batch = ingestion.reopen(batch_id) if action == "reopen" else ingestion.retry_refused(batch_id, accept=accept)
        run: Any = context["dag_run"]
        by = getattr(run, "triggering_user_name", None) or "nobody known"
        log.info("batch %s of %s is planned again (%s) by %s: %s", batch_id, batch.source, action, by, params["why"])
        tell_arrivals(context, {"source": batch.source, "batch": batch_id, "action": action, "by": str(by)})
        return counts_of(batch)
