"""Makes a stand-in misbehave as a service does: refuse, be slow, be away, lose an answer."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_FOREVER: Final = 2**31


@dataclass
class Fault:
    """What befalls requests.

    Attributes:
        operation: which requests; ``*`` for all.
        status: answer this HTTP status; 0 for none.
        times: so many requests.
        after: let so many through first.
        delay_seconds: wait before anything else.
        drop: close the connection: ``request`` before anything was done, ``answer`` after it was done.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"drop": ("request", "answer")}
    """The texts that a field may hold, beside none."""

    operation: str = "*"
    status: int = 0
    times: int = _FOREVER
    after: int = 0
    delay_seconds: float = 0.0
    drop: Literal["", "request", "answer"] = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what was posted.

        Raises:
            ValueError: it has another key, or a value that is not allowed.
        """
        known = {field.name: field.default for field in fields(cls)}
        if unknown := sorted(set(document) - set(known)):
            raise ValueError(f"expected only {', '.join(known)}; found {', '.join(unknown)}")
        for name, value in document.items():
            kind = type(known[name])
            wanted = (int, float) if kind is float else kind
            if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{name}: expected a value like {known[name]!r}, found {value!r}")
            if value and value not in cls.CHOICES.get(name, (value,)):
                raise ValueError(f"{name}: expected {' or '.join(cls.CHOICES[name])}, found {value!r}")
        return cls(**document)

    def befalls(self, operation: str, about: Collection[str] = ()) -> bool:
        """Whether it is of this operation; some are only of requests about certain things."""
        return self.operation in ("*", operation)


@dataclass
class Faults[F: Fault]:
    """The faults in force, and how often each operation was asked for."""

    requests: dict[str, int] = field(default_factory=dict)
    _faults: list[F] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, fault: F) -> None:
        """Put a fault in force; the one put in force first befalls a request."""
        with self._changed:
            self._faults.append(fault)

    def clear(self) -> None:
        """End all faults; who is being delayed goes on at once."""
        with self._changed:
            self._faults.clear()
            self._changed.notify_all()

    def take(self, operation: str, about: Collection[str] = ()) -> F | None:
        """Count a request; the fault that befalls it."""
        with self._changed:
            self.requests[operation] = self.requests.get(operation, 0) + 1
            self._changed.notify_all()
            for fault in self._faults:
                if not fault.befalls(operation, about) or fault.times <= 0:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def delay(self, fault: F) -> None:
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

    def in_force(self) -> list[F]:
        """Those that can still befall a request."""
        with self._changed:
            return [fault for fault in self._faults if fault.times > 0]

    def __contains__(self, fault: object) -> bool:
        """Whether it was not ended."""
        with self._changed:
            return any(each is fault for each in self._faults)

    def to_json(self) -> list[dict[str, Any]]:
        """The faults in force."""
        return [asdict(fault) for fault in self.in_force()]
