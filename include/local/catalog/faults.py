"""Makes the stand-in misbehave as a service does: refuse, be slow, be away, lose an answer, fail later."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

PROCESSING: Final = "ProcessLineageEvent"
"""The operation of faults that befall an event after it was taken. It is no operation of the service."""
_FOREVER: Final = 2**31


@dataclass
class Fault:
    """What befalls requests.

    Attributes:
        operation: which requests; ``*`` for all.
        status: answer this HTTP status; 0 for none,
        code: with this error.
        times: so many requests.
        after: let so many through first.
        delay_seconds: wait before anything else.
        drop: close the connection: ``request`` before anything was done, ``answer`` after it was done.
        outcome: of `PROCESSING`: FAILED, or PROCESSING for as long as the fault lasts.
    """

    operation: str = "*"
    status: int = 0
    code: str = "InternalServerException"
    times: int = _FOREVER
    after: int = 0
    delay_seconds: float = 0.0
    drop: Literal["", "request", "answer"] = ""
    outcome: Literal["", "FAILED", "PROCESSING"] = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Fault:
        """Read what was posted.

        Raises:
            ValueError: it has another key, or a value that is not allowed.
        """
        known = {field.name: field.default for field in fields(cls)}
        if unknown := sorted(set(document) - set(known)):
            raise ValueError(f"expected only {', '.join(known)}; found {', '.join(unknown)}")
        for name, value in document.items():
            wanted = (int, float) if name == "delay_seconds" else type(known[name])
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"{name}: expected a value like {known[name]!r}, found {value!r}")
        fault = cls(**document)
        if fault.drop not in ("", "request", "answer") or fault.outcome not in ("", "FAILED", "PROCESSING"):
            raise ValueError(
                f"expected drop request or answer, outcome FAILED or PROCESSING; found {fault.drop!r}, {fault.outcome!r}"
            )
        return fault


@dataclass
class Faults:
    """The faults in force, and how often each operation was asked for."""

    requests: dict[str, int] = field(default_factory=dict)
    _faults: list[Fault] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, fault: Fault) -> None:
        """Put a fault in force; the one put in force first befalls a request."""
        with self._changed:
            self._faults.append(fault)

    def clear(self) -> None:
        """End all faults; who is being delayed goes on at once."""
        with self._changed:
            self._faults.clear()
            self._changed.notify_all()

    def take(self, operation: str) -> Fault | None:
        """Count a request; the fault that befalls it."""
        with self._changed:
            self.requests[operation] = self.requests.get(operation, 0) + 1
            self._changed.notify_all()
            for fault in self._faults:
                named = fault.operation == operation
                everybody = fault.operation == "*" and operation != PROCESSING  # which is no request
                if not (named or everybody) or fault.times <= 0:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def delay(self, fault: Fault) -> None:
        """Wait as long as the fault says, or until it is ended."""
        with self._changed:
            self._changed.wait_for(lambda: fault not in self._faults, timeout=fault.delay_seconds)

    def wait_until_asked(self, operation: str, times: int, timeout: float = 30.0) -> None:
        """Wait for so many requests of an operation.

        Raises:
            TimeoutError: there were fewer.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.requests.get(operation, 0) >= times, timeout):
                raise TimeoutError(f"expected {times} requests of {operation}, found {self.requests.get(operation, 0)}")

    def holds_processing(self) -> bool:
        """Whether events wait."""
        with self._changed:
            return any(fault.outcome == "PROCESSING" and fault.times > 0 for fault in self._faults)

    def to_json(self) -> list[dict[str, Any]]:
        """The faults in force."""
        with self._changed:
            return [asdict(fault) for fault in self._faults if fault.times > 0]
