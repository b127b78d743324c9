"""A catalog of one's own, for tests and benchmarks: in a thread of the caller, on a free port, gone afterwards."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.local.catalog.faults import Fault
from include.local.catalog.identity import REGION
from include.local.catalog.server import Server
from include.local.catalog.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.local.catalog.protocol import Document


class TrialCatalog:
    """A running catalog.

    Attributes:
        url: where it is.
        service: its inside.
        done: operation and content of every request that was done, in order.
    """

    def __init__(self, home: Path | None = None, processing_seconds: float = 0.0) -> None:
        self.done: list[tuple[str, Document]] = []
        self.service = Service(
            home=home,
            processing_seconds=processing_seconds,
            listener=lambda operation, said: self.done.append((operation, said)),
        )
        self.domain_id = self.service.domain_id
        self.project_id = self.service.project_id
        self.server = Server(self.service)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def client(self, **config: Any) -> Any:
        """A client of it that makes a single attempt."""
        import boto3
        from botocore.config import Config

        settings = {"retries": {"mode": "standard", "total_max_attempts": 1}, "read_timeout": 10, "connect_timeout": 3}
        return boto3.session.Session().client(
            "datazone",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(**(settings | config)),
        )

    def fault(self, operation: str, **fields: Any) -> None:
        """Put a fault in force; see `Fault`."""
        self.service.faults.add(Fault(operation, **fields))

    def clear(self) -> None:
        """End all faults."""
        self.service.faults.clear()

    def reset(self) -> None:
        """As new: no faults, no state, nothing asked."""
        self.clear()
        self.service.faults.requests.clear()
        self.service.store.clear()
        self.done.clear()

    def forget(self) -> None:
        """Lose all that was stored, not what was heard."""
        self.service.store.clear()

    def asked(self, operation: str) -> int:
        """How often an operation was asked for, done or not."""
        return self.service.faults.requests.get(operation, 0)

    def wait_until_asked(self, operation: str, times: int) -> None:
        """Wait for so many requests of an operation."""
        self.service.faults.wait_until_asked(operation, times)

    @property
    def posted(self) -> list[tuple[str, bytes]]:
        """Token and body of every lineage event that was taken, repetitions too."""
        return [
            (said["clientToken"], said["event"]) for operation, said in self.done if operation == "PostLineageEvent"
        ]

    @property
    def events(self) -> list[Document]:
        """The lineage events that it has: id, status, reason, moment, body."""
        self.service.state()
        return [dict(row) for row in self.service.store.all("SELECT * FROM events ORDER BY seq")]


@contextmanager
def trial_catalog(home: Path | None = None, processing_seconds: float = 0.0) -> Iterator[TrialCatalog]:
    """Serve a catalog.

    Args:
        home: where its state is kept; in memory if there is none.
        processing_seconds: how long a lineage event waits; with 0 it is processed before the next request.
    """
    catalog = TrialCatalog(home, processing_seconds)
    thread = threading.Thread(target=catalog.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield catalog
    finally:
        catalog.server.close()
        thread.join()
