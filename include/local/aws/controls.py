"""Tells an AWS stand-in what shall befall its callers; for tests and demonstrations."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote


class Controls:
    """The controls of one AWS stand-in; see `include.local.aws.dynamodb_faults` for what there is.

    Args:
        endpoint_url: where it listens.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._url = endpoint_url.rstrip("/")

    def fault(self, operation: str = "*", **fields: Any) -> None:
        """Put a fault in force: ``fault("PutItem", table="Order-*", code="ProvisionedThroughputExceededException", times=3)``.

        Raises:
            ValueError: there is no such field, or its value is not allowed.
        """
        self._ask("POST", "faults", {"operation": operation, **fields})

    def clear(self) -> None:
        """End all faults; who is being delayed goes on at once."""
        self._ask("DELETE", "faults")

    def requests(self) -> dict[str, int]:
        """How often each operation was asked for since the stand-in began."""
        counted: dict[str, int] = self._ask("GET", "state")["requests"]
        return counted

    def faults(self) -> list[dict[str, Any]]:
        """The faults in force."""
        found: list[dict[str, Any]] = self._ask("GET", "state")["faults"]
        return found

    def advance(self, seconds: float) -> None:
        """Move on the clock by which iterators, records and transactions' tokens expire."""
        self._ask("POST", "clock", {"seconds": seconds})

    def stream(self, table: str, **behaviour: float) -> None:
        """Let a table's stream, and those to come, behave out of the ordinary; fields of `Behaviour`."""
        self._ask("POST", f"streams/{quote(table)}", behaviour)

    def split(self, table: str, shard: str | None = None, *, children: int = 2) -> list[str]:
        """Close an open shard, or all that are open; gives their children's ids.

        Raises:
            ValueError: there is no such open shard.
        """
        asked = {"shard": shard, "children": children}
        made: list[str] = self._ask("POST", f"streams/{quote(table)}/split", asked)["children"]
        return made

    def repeat(self, table: str, records: int) -> None:
        """Let the next page of each shard give so many records again that were given before."""
        self._ask("POST", f"streams/{quote(table)}/repeat", {"records": records})

    def reset(self) -> None:
        """End all faults and behaviour, and set the clock right."""
        self.clear()
        self._ask("DELETE", "clock")
        self._ask("DELETE", "streams")

    def _ask(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        body = json.dumps(document).encode() if document is not None else None
        request = urllib.request.Request(
            f"{self._url}/_local/{path}", body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error
        return answer
