"""What can befall the requests to the AWS stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from include.local import faults

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass
class Fault(faults.Fault):
    """What befalls requests of services that name the operation in a header: DynamoDB, its streams, Cognito and more.

    Attributes:
        table: only those that touch a table with such a name; ``*`` and ``?`` as in a shell; empty: all.
        code: error that is answered: ``ProvisionedThroughputExceededException``, ``LimitExceededException``, ... A
            ``TransactionConflict`` is told as DynamoDB tells it: as reason of a cancelled transaction.
        unprocessed: of a batch: so large a share is not done and given back, but one element is done at least.
        done: the request is done first; what befalls it, befalls its answer: a delay makes it late, an error is a lie.
    """

    table: str = ""
    code: str = ""
    unprocessed: float = 0.0
    done: bool = False

    def befalls(self, operation: str, about: Collection[str] = ()) -> bool:
        """Whether it is of this operation, and of one of these tables."""
        return super().befalls(operation) and (not self.table or any(fnmatchcase(name, self.table) for name in about))

    @property
    def refuses(self) -> bool:
        """Whether an error is answered."""
        return bool(self.code or self.status)


class Faults(faults.Faults[Fault]):
    """The faults in force, and how often each operation was asked for."""


def tables_of(request: Mapping[str, Any]) -> set[str]:
    """The DynamoDB tables that a request touches."""
    names = {request["TableName"]} if "TableName" in request else set()
    names |= set(request.get("RequestItems", {}))
    names |= {part["TableName"] for element in request.get("TransactItems", []) for part in element.values()}
    for field in ("StreamArn", "ShardIterator"):
        _, _, rest = str(request.get(field, "")).partition(":table/")
        names |= {rest.split("/")[0]} if rest else set()
    return names
