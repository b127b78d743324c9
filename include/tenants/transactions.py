"""DynamoDB's transactions, with what a caller must otherwise know of them.

A transaction is refused as a whole with a reason per element. ``TransactionConflict`` means that somebody else is writing one of the items
at this moment: boto3 does not try again, so it is done here. ``ConditionalCheckFailed`` is an answer.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from botocore.exceptions import ClientError

MOST_ELEMENTS: Final = 100
"""DynamoDB's limit of a transaction."""

_PASSING: Final = frozenset({"None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
_BUSY: Final = frozenset(
    {
        "TransactionInProgressException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
    }
)


class ConditionFailed(Exception):
    """Conditions of a transaction did not hold; nothing was written.

    Attributes:
        elements: positions of the elements whose conditions did not.
    """

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__(f"conditions of the elements {list(elements)} did not hold")
        self.elements = tuple(elements)


def transact(
    dynamodb: Any,
    elements: Sequence[Mapping[str, Any]],
    *,
    token: str | None = None,
    seconds: float = 10,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write all elements or none; again after a conflict with another writer, until ``seconds`` have passed.

    Args:
        dynamodb: a boto3 client.
        elements: of ``TransactItems``.
        token: of this write; who calls again after an error gives the same, else a request that was lost on its way and arrives after
            the next try would be written once more, over what came since. AWS knows a token for ten minutes.
        seconds: how long to try.
        sleep: waits.
        clock: seconds.

    Raises:
        ConditionFailed: a condition does not hold.
        ClientError: anything else; after a time-out of the last try it is unknown whether it was written.
    """
    from botocore.exceptions import ClientError

    end = clock() + seconds
    pause = 0.01
    # so that a try after one whose answer was an error isn't refused for what that one has written
    token = token or new_token()
    while True:
        try:
            dynamodb.transact_write_items(TransactItems=list(elements), ClientRequestToken=token)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "TransactionCanceledException":
                codes = [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])]
                failed = [position for position, each in enumerate(codes) if each == "ConditionalCheckFailed"]
                if failed:
                    raise ConditionFailed(failed) from error
                if not codes or not set(codes) <= _PASSING:
                    raise
            elif code not in _BUSY:
                raise
            if clock() + pause > end:
                raise
            sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret; spreads writers that meet
            pause = min(pause * 2, 0.5)
        else:
            return


def in_pieces(write: Callable[[Sequence[Mapping[str, Any]]], None], elements: Sequence[Mapping[str, Any]]) -> None:
    """Write elements that need not be written together: by halves, where DynamoDB refuses them as too big.

    It counts the items that are deleted or replaced too, which the caller doesn't know.

    Args:
        write: makes one transaction of some of them.
        elements: of ``TransactItems``.

    Raises:
        ClientError: one is refused by itself.
    """
    from botocore.exceptions import ClientError

    try:
        write(elements)
    except ClientError as error:
        if len(elements) == 1 or not _is_refused(error):
            raise
        middle = len(elements) // 2
        in_pieces(write, elements[:middle])
        in_pieces(write, elements[middle:])


def _is_refused(error: ClientError) -> bool:
    """Whether DynamoDB has found something wrong with the request, or with what it would lead to."""
    reasons = error.response.get("CancellationReasons", [])
    return error.response["Error"]["Code"] == "ValidationException" or any(
        reason.get("Code") == "ValidationError" for reason in reasons
    )


def new_token() -> str:
    """A token of a write."""
    return uuid.uuid4().hex


def plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB's JSON as Python values; numbers are ``Decimal``."""
    from boto3.dynamodb.types import TypeDeserializer

    read = TypeDeserializer().deserialize
    return {name: read(value) for name, value in item.items()}


def typed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Python values as DynamoDB's JSON."""
    from boto3.dynamodb.types import TypeSerializer

    write = TypeSerializer().serialize
    return {name: write(value) for name, value in item.items()}
