"""What waits in the triggerer while a tenant's changes are replayed: for the next change, or for the migration to move on.

A worker replays only when there is something to replay; in between, one look at each shard of the stream every few seconds is all it takes.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

MOST_PAUSE_SECONDS: Final = 60.0
_RECORDS: Final = 1000


class ChangesTrigger(BaseTrigger):
    """Looks at streams of DynamoDB until somebody changes an item of certain partitions, or a row of a table has another value.

    It yields one event ``{"reason"}`` and never reads past what it tells: the worker reads again from its own checkpoint. An AWS that can't
    be asked is a reason to wait.

    Args:
        aws_conn_id: connection of type ``aws``.
        shards: where to look: ``stream`` (ARN), ``shard`` (id), ``after`` (sequence number; None for the shard's beginning).
        partition_key: name of the partition key; a string.
        partitions: its values that count.
        row: what ends the wait, too: ``table``, ``key`` (strings), ``attribute`` (a string), and the ``value`` that it has now.
        poll_seconds: time between two looks, ± 20 %.
        until: when it yields in any case.
    """

    def __init__(
        self,
        *,
        aws_conn_id: str,
        shards: Sequence[Mapping[str, Any]],
        partition_key: str,
        partitions: Sequence[str],
        row: Mapping[str, Any],
        poll_seconds: float,
        until: datetime | str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.aws_conn_id = aws_conn_id
        self.shards = [dict(shard) for shard in shards]
        self.partition_key = partition_key
        self.partitions = list(partitions)
        self.row = dict(row)
        self.poll_seconds = poll_seconds
        self.until = datetime.fromisoformat(until) if isinstance(until, str) else until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments that make an equal trigger elsewhere."""
        return (
            "data_platform.tenants.triggers.ChangesTrigger",
            {
                "aws_conn_id": self.aws_conn_id,
                "shards": self.shards,
                "partition_key": self.partition_key,
                "partitions": self.partitions,
                "row": self.row,
                "poll_seconds": self.poll_seconds,
                "until": self.until.isoformat(),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event."""
        look: Look | None = None
        reason, pause = "", self.poll_seconds
        while (left := (self.until - datetime.now(UTC)).total_seconds()) > 0:
            try:
                if look is None:
                    look = await asyncio.to_thread(self._make_look)
                reason = await asyncio.to_thread(look)
                pause = self.poll_seconds
            except Exception as error:  # of AWS or the network: the worker meets it too, if it lasts
                self.log.warning("AWS can't be asked, trying again: %s", error)
                look, reason, pause = None, "", min(2 * pause, MOST_PAUSE_SECONDS)
            if reason:
                yield TriggerEvent({"reason": reason})
                return
            await asyncio.sleep(min(pause * random.uniform(0.8, 1.2), left))  # noqa: S311 - spreads triggers that began together
        yield TriggerEvent({"reason": "it was long enough"})

    def _make_look(self) -> Look:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
        make = partial(AwsGenericHook, aws_conn_id=self.aws_conn_id, config=config)
        return Look(
            make(client_type="dynamodb").get_conn(),
            make(client_type="dynamodbstreams").get_conn(),
            self.shards,
            self.partition_key,
            frozenset(self.partitions),
            self.row,
        )


class Look:
    """Looks once at each call; goes on where it was.

    Args:
        dynamodb: a boto3 client.
        streams: a boto3 client.
        shards: see `ChangesTrigger`, as the rest.
        partition_key: of the items.
        partitions: that count.
        row: that ends the wait.
    """

    def __init__(
        self,
        dynamodb: Any,
        streams: Any,
        shards: Sequence[Mapping[str, Any]],
        partition_key: str,
        partitions: frozenset[str],
        row: Mapping[str, Any],
    ) -> None:
        self._dynamodb = dynamodb
        self._streams = streams
        self._shards = [dict(shard) for shard in shards]
        self._partition_key = partition_key
        self._partitions = partitions
        self._row = row
        self._iterators: dict[int, str] = {}

    def __call__(self) -> str:
        """Why to stop waiting; empty to go on."""
        row = self._dynamodb.get_item(
            TableName=self._row["table"], Key={name: {"S": value} for name, value in self._row["key"].items()}
        ).get("Item", {})
        found = row.get(self._row["attribute"], {}).get("S")
        if found != self._row["value"]:
            return f"{self._row['attribute']} is {found}"
        for position, shard in enumerate(self._shards):
            if reason := self._look(position, shard):
                return reason
        return ""

    def _look(self, position: int, shard: dict[str, Any]) -> str:
        from botocore.exceptions import ClientError

        try:
            iterator = self._iterators.get(position) or self._iterator(shard)
            answer = self._streams.get_records(ShardIterator=iterator, Limit=_RECORDS)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            self._iterators.pop(position, None)
            if code == "ExpiredIteratorException":
                return ""  # the next look begins where this one did
            if code in ("TrimmedDataAccessException", "ResourceNotFoundException"):
                return f"the stream does not go on from here ({code})"
            raise
        for record in answer["Records"]:
            change = record["dynamodb"]
            if change["Keys"].get(self._partition_key, {}).get("S") in self._partitions:
                return "there are changes to replay"
            shard["after"] = change["SequenceNumber"]
        if not answer.get("NextShardIterator"):
            return "a shard of the stream has ended"
        self._iterators[position] = answer["NextShardIterator"]
        return ""

    def _iterator(self, shard: Mapping[str, Any]) -> str:
        where = (
            {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": shard["after"]}
            if shard["after"]
            else {"ShardIteratorType": "TRIM_HORIZON"}
        )
        answer = self._streams.get_shard_iterator(StreamArn=shard["stream"], ShardId=shard["shard"], **where)
        iterator: str = answer["ShardIterator"]
        return iterator
