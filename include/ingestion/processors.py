"""Which engine a batch gets, and how the local one is asked.

The intake knows one thing of an engine: `include.ingestion.batches.Processor`. The one here runs in the worker, as a process of the
warehouse environment. A batch above its source's ``batches.spark_mib`` is one for a cluster: `processor_for` is where that is decided.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.ingestion.batches import MIB, DeadLetterFile, ObjectResult, Output, ProcessResult
from include.ingestion.processing import InputObject, OcsfProcessor
from include.ingestion.processing import ProcessRequest as EngineRequest

if TYPE_CHECKING:
    from pathlib import Path

    from include.ingestion import processing
    from include.ingestion.batches import Processor, ProcessRequest
    from include.ingestion.ledger import Batch
    from include.ingestion.sources import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Object(InputObject):
    """An object, and, if it holds dead letters, the one that they came from: its key tells account and region."""

    replay_of: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Request(EngineRequest):
    """A request, and the lake's region, which events are of whose source does not say theirs."""

    region: str | None = None


@dataclass
class EngineProcessor:
    """The engine in a process of this worker.

    Attributes:
        region: of the lake.
        engine: what runs it.
    """

    region: str
    engine: OcsfProcessor = field(default_factory=OcsfProcessor)

    def process(self, request: ProcessRequest) -> ProcessResult:
        """Do it; see `OcsfProcessor.run` for what it raises."""
        objects = [
            _Object(
                each.path,
                each.bucket,
                each.key,
                each.version_id,
                each.etag,
                each.size,
                dict(vars(each.replay_of)) if each.replay_of else None,
            )
            for each in request.objects
        ]
        asked = _Request(
            request.source,
            request.batch,
            objects,
            request.out,
            request.threads,
            request.mapping_digest,
            self.region,
        )
        return _result(self.engine.run(asked), request.out)

    def terminate(self) -> None:
        """Stop it; for the task's ``on_kill``."""
        self.engine.terminate()


def processor_for(batch: Batch, source: Source, local: EngineProcessor) -> Processor:
    """The engine of a batch, by its size.

    Args:
        batch: as the ledger has it.
        source: whose it is.
        local: the engine of this worker.
    """
    if batch.bytes > source.batches.spark_mib * MIB:
        log.warning(
            "batch %s of %s has %d MiB, more than the %d of batches.spark_mib; it is processed here, which takes long",
            batch.batch_id,
            batch.source,
            batch.bytes // MIB,
            source.batches.spark_mib,
        )
    return local


def _result(told: processing.ProcessResult, out: Path) -> ProcessResult:
    """The engine's result in the intake's words."""
    outputs = [
        Output(
            out / each.path,
            each.class_name,
            each.region,
            each.account_id,
            each.event_day,
            each.part,
            each.rows,
            each.bytes,
            each.time_min,
            each.time_max,
        )
        for each in told.outputs
    ]
    return ProcessResult(
        told.read,
        told.written,
        told.set_aside,
        told.reasons,
        told.classes,
        told.mapping_digest or "",
        outputs,
        [DeadLetterFile(out / each.path, each.records) for each in told.dead_letters],
        [ObjectResult(each.key, each.version_id, each.read, each.written, each.set_aside) for each in told.objects],
        told.bytes_read,
        told.seconds,
    )
