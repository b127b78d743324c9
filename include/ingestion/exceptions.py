"""What can go wrong with an ingestion; each message says what was expected, what was found, what to do."""

from __future__ import annotations


class IngestionError(Exception):
    """Any of them. Nothing is lost: what was received is in the ledger and waits."""


class BadNotice(IngestionError, ValueError):
    """A notice, or one of its records, can't be read.

    Attributes:
        reason: a code: ``not_json``, ``not_a_notice``, ``bad_key``, …
        detail: what was expected and found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class VersionUnknown(IngestionError, ValueError):
    """The ledger has no such object version."""


class BatchUnknown(IngestionError, ValueError):
    """The ledger has no such batch."""


class BatchConflict(IngestionError):
    """The batch is in another state than a step expected. Nothing was written."""


class ObjectGone(IngestionError):
    """The object version can't be read any more: deleted, or replaced by a newer one. That one comes by its own notice.

    Attributes:
        reason: ``deleted``, ``replaced``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ObjectArchived(IngestionError):
    """The object is in an archive storage class and must be restored before it can be read."""


class FetchFailed(IngestionError):
    """An object could not be downloaded whole; a retry may succeed."""


class DiskFull(IngestionError):
    """The worker has no room for a batch; it stays planned, and a retry goes on."""


class CountsDiffer(IngestionError):
    """Read is not written + set aside, or a total is not its parts' sum. Nothing was published."""


class MappingChanged(IngestionError):
    """The batch was processed with another mapping than was asked for. Nothing was published."""


class BatchRefused(IngestionError):
    """Too large a share of the batch's records can't be ingested. Nothing was published; its dead letters can be looked at."""


class OutputLost(IngestionError):
    """A committed output can be neither completed nor found."""


class DeadLettersUnreadable(IngestionError):
    """A file of dead letters is missing, or isn't what was written."""


class LeaseTaken(IngestionError):
    """Somebody else reads the shard now."""


class LeaseLost(IngestionError):
    """The shard is somebody else's by now: what this reader had not written yet is not written."""


class StreamTrimmed(IngestionError):
    """Records are gone from the stream before they were read, or may be."""
