"""What a replay of dead letters would do: the same look at the same files, and nothing is written."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.dead_letters import Replay, _File
from include.ingestion.exceptions import BatchConflict
from include.ingestion.ledger import BatchState

if TYPE_CHECKING:
    from collections.abc import Collection

    from include.ingestion.ledger import Ledger

_FOLDER: Final = "replays"


def work_folder(scratch: Path) -> Path:
    """Where files of dead letters are kept while they are read; it is made if it isn't there."""
    folder = scratch / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def preview(
    s3: Any,
    ledger: Ledger,
    source: str,
    *,
    day: str | None = None,
    batch_id: str | None = None,
    reasons: Collection[str] | None = None,
    work: Path | None = None,
) -> Replay:
    """What `include.ingestion.dead_letters.replay` would replay; see there for the arguments.

    Raises:
        BatchConflict: the batch isn't published, or is of another source.
        DeadLettersUnreadable: a file is missing or broken.
    """
    batches = ledger.batches(source, day) if day is not None else [ledger.batch(str(batch_id))]
    if batch_id is not None and (batches[0].source, batches[0].state) != (source, BatchState.PUBLISHED):
        raise BatchConflict(
            f"batch {batch_id}: expected a published batch of {source}, found one of {batches[0].source} that is {batches[0].state}"
        )
    records = objects = 0
    found: Counter[str] = Counter()
    for batch in batches:
        if batch.state != BatchState.PUBLISHED:
            continue
        for upload in ledger.uploads(batch.batch_id, batch.commit).get(batch.commit, []):
            if upload.kind != "dead_letters":
                continue
            with tempfile.TemporaryDirectory(prefix="preview-", dir=work) as folder:
                groups = _File(s3, ledger, batch, upload, "", reasons, Path(folder))._groups()
            records += sum(group.records for group in groups)
            objects += len(groups)
            for group in groups:
                found.update(group.reasons)
    return Replay(records, objects, dict(found))
