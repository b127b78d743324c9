"""One domain of DataZone: what each operation does, once a time, and what each answers."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Final

from include.local.catalog.entities import Entities
from include.local.catalog.faults import PROCESSING, Faults
from include.local.catalog.identity import ACCOUNT_ID, DOMAIN_ID, PROJECT_ID, REGION
from include.local.catalog.inventory import Inventory
from include.local.catalog.lineage import Lineage
from include.local.catalog.listings import Listings
from include.local.catalog.protocol import (
    Answer,
    ApiError,
    find_operation,
    read_request,
    write_answer,
    write_error,
)
from include.local.catalog.scores import Scores
from include.local.catalog.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path

    from botocore.model import OperationModel

    from include.local.catalog.protocol import Document

log = logging.getLogger(__name__)

_TOKENLESS: Final = frozenset({"clientToken", "domainIdentifier"})


class Service:
    """Answers DataZone's operations for one domain.

    Args:
        domain_id: the domain, there from the start.
        project_id: its project.
        home: where the state is kept; None keeps it in memory.
        processing_seconds: how long a lineage event waits to be processed.
        listener: told of every request that was done: operation, what it said.
    """

    def __init__(
        self,
        domain_id: str = DOMAIN_ID,
        project_id: str = PROJECT_ID,
        home: Path | None = None,
        processing_seconds: float = 0.2,
        listener: Callable[[str, Document], None] | None = None,
    ) -> None:
        self.domain_id = domain_id
        self.project_id = project_id
        self.faults = Faults()
        self.store = Store(home)
        self.lineage = Lineage(domain_id, self.store, self.faults, processing_seconds)
        self.scores = Scores(domain_id, self.store)
        entities = Entities(domain_id, self.store)
        self._listener = listener
        self._operations: dict[str, Callable[[Document], Document]] = {
            "GetDomain": self._get_domain,
            **self.lineage.operations(),
            **self.scores.operations(),
            **Inventory(domain_id, project_id, entities, self.scores).operations(),
            **Listings(domain_id, project_id, entities, self.scores).operations(),
        }

    def answer(self, method: str, target: str, headers: Message, body: bytes) -> Answer | None:
        """Answer one HTTP request; None means that the connection is to be closed without a word."""
        try:
            operation, labels = find_operation(method, target)
            fault = self.faults.take(operation.name)
            if fault:
                if fault.delay_seconds:
                    self.faults.delay(fault)
                if fault.drop == "request":
                    return None
                if fault.status:
                    return write_error(ApiError(fault.code, "a fault was asked for", fault.status))
            answer = self._do(operation, read_request(operation, labels, target, headers, body))
            return None if fault and fault.drop == "answer" else answer
        except ApiError as error:
            return write_error(error)
        except Exception:
            log.exception("%s %s: a mistake of the stand-in", method, target)
            return write_error(ApiError("InternalServerException", "a mistake of the stand-in; its log says which"))

    def state(self) -> Document:
        """What was asked for, and what became of it."""
        with self.store.transaction():
            self.lineage.settle()
        return {
            "domain": self.domain_id,
            "project": self.project_id,
            "requests": {name: count for name, count in sorted(self.faults.requests.items()) if name != PROCESSING},
            "events": self.lineage.counts(),
            "faults": self.faults.to_json(),
        }

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    def _do(self, operation: OperationModel, said: Document) -> Answer:
        """One request, all or nothing."""
        act = self._operations.get(operation.name)
        if act is None:
            raise ApiError(
                "NotImplementedException",
                f"the stand-in has no {operation.name}; it has {', '.join(sorted(self._operations))}",
                501,
            )
        domain = said["identifier"] if operation.name == "GetDomain" else said["domainIdentifier"]
        if domain != self.domain_id:
            raise ApiError("ResourceNotFoundException", f"no domain {domain}; this one is {self.domain_id}")
        with self.store.transaction():
            self.lineage.settle()
        with self.store.transaction():
            answer = self._once(operation, said, act) if "clientToken" in said else write_answer(operation, act(said))
        if self._listener:
            self._listener(operation.name, said)
        return answer

    def _once(self, operation: OperationModel, said: Document, act: Callable[[Document], Document]) -> Answer:
        """Do it unless it was done under this token before."""
        rest = {name: value for name, value in said.items() if name not in _TOKENLESS}
        digest = hashlib.sha256(repr(sorted(rest.items())).encode()).hexdigest()
        done = self.store.one(
            "SELECT * FROM tokens WHERE operation = ? AND token = ?", operation.name, said["clientToken"]
        )
        if done is None:
            answer = write_answer(operation, act(said))
            told = json.dumps([answer.status, answer.headers, answer.body.decode()])
            self.store.run("INSERT INTO tokens VALUES (?, ?, ?, ?)", operation.name, said["clientToken"], digest, told)
            return answer
        if done["digest"] != digest:
            raise ApiError(
                "ConflictException", f"clientToken {said['clientToken']} was used for another request before"
            )
        status, headers, body = json.loads(done["answer"])
        return Answer(status, headers, body.encode())

    def _get_domain(self, said: Document) -> Document:
        return {
            "id": self.domain_id,
            "name": "local",
            "arn": f"arn:aws:datazone:{REGION}:{ACCOUNT_ID}:domain/{self.domain_id}",
            "domainExecutionRole": f"arn:aws:iam::{ACCOUNT_ID}:role/local-datazone",
            "status": "AVAILABLE",
        }
