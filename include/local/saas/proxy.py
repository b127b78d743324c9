"""A network that fails: a proxy between a client and the AWS stand-in.

What it does to a request happens between two programs that both work: a connection is dropped before or after the request was done, a
request is late or overtaken by a later one, everything is cut for a while. A request that it holds is passed on in the end unless all is
cut, also if its client has long given up: that is what makes a write late.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import urlsplit

from include.local import faults
from include.local.aws.faults import Fault, tables_of
from include.local.serving import LocalHandler, LocalServer

if TYPE_CHECKING:
    from collections.abc import Collection
    from email.message import Message

_NOT_PASSED_ON: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_UPSTREAM_SECONDS: Final = 60


@dataclass
class Rule(Fault):
    """What the network does to requests; the fields of `Fault`, but for those that only the service can do.

    Attributes:
        overtaken_by: the request waits until so many that came later are done, or until its delay is over.
    """

    overtaken_by: int = 0


class Rules(faults.Faults[Rule]):
    """The rules in force, and how often each operation was asked for."""


class Proxy:
    """Passes requests on to an upstream; use it in a ``with``.

    Args:
        upstream_url: of the AWS stand-in.
    """

    def __init__(self, upstream_url: str) -> None:
        self.rules = Rules()
        self._upstream = urlsplit(upstream_url).netloc
        self._changed = threading.Condition()
        self._state = "open"
        self._connections: set[socket.socket] = set()
        self.done = 0
        self.cuts = 0
        self._server = LocalServer(type("Handler", (_Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.cut()
        self._server.close()

    def rule(self, operation: str = "*", **fields: Any) -> None:
        """Put a rule in force: ``rule("TransactWriteItems", table="Order-*", drop="answer", times=1)``.

        Raises:
            ValueError: there is no such field, or its value is not allowed.
        """
        rule = Rule.from_json({"operation": operation, **fields})
        if rule.code or rule.status or rule.unprocessed:
            raise ValueError(
                "expected something that a network does, found an answer of the service; see Controls.fault"
            )
        self.rules.add(rule)

    def clear(self) -> None:
        """End all rules; requests that wait go on."""
        self.rules.clear()
        with self._changed:
            self._changed.notify_all()

    def cut(self) -> None:
        """Close all connections, and those to come; requests that it holds are lost."""
        self._become("cut")
        with self._changed:
            self.cuts += 1
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Let requests wait; they are passed on when it is healed."""
        self._become("stalled")

    def heal(self) -> None:
        """Pass on everything again; the rules stay."""
        self._become("open")

    def wait_until_asked(self, operation: str, times: int, timeout: float = 30.0) -> None:
        """Wait for so many requests of an operation since the beginning.

        Raises:
            TimeoutError: there were fewer.
        """
        self.rules.wait_until_asked(operation, times, timeout)

    def admit(self, connection: socket.socket) -> bool:
        """Take a client's connection."""
        with self._changed:
            self._connections.add(connection)
            return self._state != "cut"

    def forget(self, connection: socket.socket) -> None:
        """A client's connection is over."""
        with self._changed:
            self._connections.discard(connection)

    def flows(self, cuts: int) -> bool:
        """Wait while it is stalled; gives whether it was not cut since there were so many cuts."""
        with self._changed:
            self._changed.wait_for(lambda: self._state != "stalled")
            return self._state == "open" and self.cuts == cuts

    def wait_until_overtaken(self, rule: Rule, done: int) -> None:
        """Wait until enough others than these are done, or the rule's time is over or it was ended."""
        with self._changed:
            enough = done + rule.overtaken_by
            self._changed.wait_for(
                lambda: self.done >= enough or rule not in self.rules, rule.delay_seconds or _UPSTREAM_SECONDS
            )

    def pass_on(
        self, method: str, target: str, headers: Message, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Let the upstream do a request.

        Raises:
            OSError: it can't be reached.
            HTTPException: its answer is none.
        """
        with contextlib.closing(HTTPConnection(self._upstream, timeout=_UPSTREAM_SECONDS)) as upstream:
            passed = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}
            upstream.request(method, target, body or None, {**passed, "Content-Length": str(len(body))})
            answer = upstream.getresponse()
            found = answer.status, answer.getheaders(), answer.read()
        with self._changed:
            self.done += 1
            self._changed.notify_all()
        return found

    def _become(self, state: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()


class _Handler(LocalHandler):
    proxy: ClassVar[Proxy]

    def handle(self) -> None:
        """Serve one connection."""
        try:
            if self.proxy.admit(self.connection):
                super().handle()
        finally:
            self.proxy.forget(self.connection)

    def do_any(self) -> None:
        """Pass on one request, with what befalls it."""
        # before it is counted as asked for: what is asked for after that has come later
        cuts, done, body = self.proxy.cuts, self.proxy.done, self.read_body()
        target = self.headers.get("X-Amz-Target", "")
        rule = self.proxy.rules.take(target.rpartition(".")[2] or self.command, _tables(target, body))
        if rule and not rule.done:
            self._hold(rule, done)
        if (rule and rule.drop == "request") or not self.proxy.flows(cuts):
            return self.hang_up()
        try:
            status, headers, answer = self.proxy.pass_on(self.command, self.path, self.headers, body)
        except (OSError, HTTPException):
            return self.hang_up()
        if rule and rule.done:
            self._hold(rule, done + 1)
        if (rule and rule.drop == "answer") or not self.proxy.flows(cuts):
            return self.hang_up()
        return self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = do_any

    def hang_up(self) -> None:
        """Close the connection without a word; the client may have been faster."""
        with contextlib.suppress(OSError):
            super().hang_up()

    def _hold(self, rule: Rule, done: int) -> None:
        if rule.overtaken_by:
            self.proxy.wait_until_overtaken(rule, done)
        else:
            self.proxy.rules.delay(rule)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
        for name, value in headers:
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _tables(target: str, body: bytes) -> Collection[str]:
    return tables_of(json.loads(body)) if target.startswith("DynamoDB") else ()
