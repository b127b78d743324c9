"""The driver's log, live, bounded and without repeats.

The gateway's log endpoint replays a log from its start on every call and then follows it. So each call skips the bytes that were seen,
and is ended when nothing new comes. Reading has its own task and its own limits: it never holds up the watch on the job's state.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.exceptions import BatchGatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_platform.batch_gateway.client import AsyncGatewayClient

MAX_BYTES: Final = 256 * 2**10
"""Most of a driver's log that goes to the task's log."""
QUIET_SECONDS: Final = 2.0
"""A call ends when nothing has come for so long."""
CALL_SECONDS: Final = 20.0
"""A call ends after so long in any case, to let others read."""
_LINE_CHARACTERS: Final = 4000
_LINE_BYTES: Final = 64 * 2**10
"""What has no end after so many bytes is written as a line."""
_SENTINEL: Final = protocol.LOG_SENTINEL.encode()


@dataclass
class DriverLog:
    """How far a driver's log was read.

    Attributes:
        submission_id: of the job.
        write: gets each line, without its end.
        max_bytes: what comes after so many is left out.
        position: bytes that were written, or skipped because an earlier reader had written them.
    """

    submission_id: str
    write: Callable[[str], None]
    max_bytes: int = MAX_BYTES
    position: int = 0
    _partial: bytearray = field(default_factory=bytearray)
    _blank_lines: int = 0

    @property
    def full(self) -> bool:
        """Whether no more is written."""
        return self.position >= self.max_bytes

    async def read(self, client: AsyncGatewayClient) -> int:
        """Read what is new; gives the number of bytes. What the gateway can't give now comes with a later call."""
        if self.full:
            return 0
        before = self.position + len(self._partial)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._follow(client)
        except (TimeoutError, BatchGatewayError):
            pass
        return self.position + len(self._partial) - before

    def start_again(self) -> None:
        """The job has another driver, whose log begins at its start."""
        self.position = 0
        self._partial.clear()

    def finish(self) -> None:
        """Write the last line, if it has no end."""
        if self._partial and not self.full:
            self._emit(bytes(self._partial))
        self._partial.clear()

    async def _follow(self, client: AsyncGatewayClient) -> None:
        to_skip = self.position + len(self._partial)
        head: bytes | None = b""  # held back until it can't be the sentinel any more
        async for piece in client.stream(protocol.log(self.submission_id), quiet_seconds=QUIET_SECONDS):
            content = piece
            if head is not None:
                content = head = head + piece
                if content.startswith(_SENTINEL):
                    return
                if _SENTINEL.startswith(content):
                    continue
                head = None
            skipped = content[:to_skip]
            to_skip -= len(skipped)
            if not self._take(content[len(skipped) :]):
                return

    def _take(self, content: bytes) -> bool:
        """Write whole lines; gives whether more is wanted."""
        self._partial += content
        while (end := self._partial.find(b"\n")) >= 0 or len(self._partial) > _LINE_BYTES:
            line = bytes(self._partial[: end + 1] if end >= 0 else self._partial)
            del self._partial[: len(line)]
            if self.position + len(line) > self.max_bytes:
                self.write(f"… more than {self.max_bytes:,} bytes; the rest is behind the link Driver log")
                self.position = self.max_bytes  # nobody who goes on from here says it again
                self._partial.clear()
                return False
            self._emit(line)
        return True

    def _emit(self, line: bytes) -> None:
        self.position += len(line)
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if not text:  # the gateway adds an empty line at the end
            self._blank_lines += 1
            return
        for _ in range(self._blank_lines):
            self.write("")
        self._blank_lines = 0
        self.write(text if len(text) <= _LINE_CHARACTERS else f"{text[:_LINE_CHARACTERS]}…")
