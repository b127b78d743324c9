"""Carry out calls of `protocol` over a pool of connections: blocking, or on an event loop.

What may be repeated is repeated after a growing, jittered pause; a submission never is. httpx logs URLs, which hold no secret, and no
header.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

from data_platform.batch_gateway.exceptions import GatewayUnavailable
from data_platform.batch_gateway.protocol import Answer, check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from data_platform.batch_gateway.config import GatewayConfig
    from data_platform.batch_gateway.protocol import Call

CONNECT_TIMEOUT_SECONDS: Final = 10.0
CLIENT_VERSION: Final = "data-platform-airflow/1"
"""Sent as ``Client-Version``, which the gateway writes to its log."""

LARGE_ANSWER: Final = 200_000
"""Characters from which on an answer is not read on the event loop."""

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Errors that come before a byte of the request has left."""


@dataclass(frozen=True)
class Patience:
    """How often and how far apart a repeatable call is tried.

    Attributes:
        attempts: in all.
        first_seconds: most that the first pause takes; each further one may take twice the one before.
        longest_seconds: most that any pause takes.
    """

    attempts: int = 4
    first_seconds: float = 0.5
    longest_seconds: float = 8.0

    def pause(self, failures: int, error: GatewayUnavailable) -> float:
        """Seconds before the next attempt: as long as the gateway asked for, else anything up to a growing limit."""
        limit = min(self.first_seconds * 2 ** (failures - 1), self.longest_seconds)
        if error.retry_after is not None:
            return min(error.retry_after, self.longest_seconds) + random.uniform(0, limit)  # noqa: S311 - jitter, not a secret
        return random.uniform(limit / 2, limit)  # noqa: S311 - jitter, not a secret


def _settings(config: GatewayConfig) -> dict[str, Any]:
    headers = {"Client-Version": CLIENT_VERSION, "Accept": "application/json, text/plain, */*"}
    if config.user_account:
        headers["User-Account"] = config.user_account
    return {
        "base_url": config.url,
        "headers": headers,
        "auth": httpx.BasicAuth(config.login, config.password or "") if config.login else None,
        "verify": _verify(config),
        "timeout": httpx.Timeout(config.read_timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        "limits": httpx.Limits(max_connections=50, max_keepalive_connections=20),
        "trust_env": False,  # a proxy or .netrc of the worker is not what the connection says
    }


def _verify(config: GatewayConfig) -> ssl.SSLContext | bool:
    """Without TLS the certificates are not loaded, which takes a noticeable part of a second."""
    if not config.url.startswith("https:"):
        return False
    if isinstance(config.tls_verify, str):
        return ssl.create_default_context(cafile=config.tls_verify)
    return config.tls_verify


def _request(call: Call[Any], config: GatewayConfig, quiet_seconds: float | None = None) -> dict[str, Any]:
    seconds = [config.read_timeout_seconds, call.seconds, quiet_seconds]
    return {
        "timeout": httpx.Timeout(min(each for each in seconds if each is not None), connect=CONNECT_TIMEOUT_SECONDS),
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "content": call.content,
        "headers": {"Content-Type": call.content_type} if call.content_type else {},
    }


def _failure(call: Call[Any], url: str, error: httpx.HTTPError) -> GatewayUnavailable:
    told = f"{call.operation}: no answer from {url}: {type(error).__name__}: {error}"
    return GatewayUnavailable(told, reached=not isinstance(error, _NOT_SENT))


def _answer(call: Call[Any], response: httpx.Response, content: bytes, *, complete: bool) -> Answer:
    text = content.decode(response.encoding or "utf-8", errors="replace")
    answer = Answer(response.status_code, text, response.headers, complete)
    check(call, answer)
    return answer


@dataclass
class GatewayClient:
    """A client that blocks. Close it, or use it in a ``with`` statement."""

    config: GatewayConfig
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        self._http = httpx.Client(**_settings(self.config))

    def __enter__(self) -> GatewayClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def run[T](self, call: Call[T], *, attempts: int | None = None) -> T:
        """Carry a call out, trying so often at most; as often as `patience` says if nothing is said.

        Raises:
            BatchGatewayError: as `protocol.check` says; `GatewayUnavailable` once the attempts are used up, or at once for a call that must
                not be repeated.
        """
        failures = 0
        while True:
            try:
                return call.read(self._once(call))
            except GatewayUnavailable as error:
                failures += 1
                if not call.repeatable or failures >= (attempts or self.patience.attempts):
                    raise
                time.sleep(self.patience.pause(failures, error))

    def stream(self, call: Call[Any], *, quiet_seconds: float) -> Iterator[bytes]:
        """The body of the answer in pieces, as they come, until it ends or nothing has come for ``quiet_seconds``. It is not tried again.

        Raises:
            BatchGatewayError: as `protocol.check` says.
        """
        begun = False
        try:
            with self._http.stream(**_request(call, self.config, quiet_seconds)) as response:
                if response.status_code != 200:
                    _answer(call, response, response.read(), complete=True)
                begun = True
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            if begun and isinstance(error, httpx.ReadTimeout):
                return
            raise _failure(call, self.config.url, error) from error

    def _once(self, call: Call[Any]) -> Answer:
        content = bytearray()
        try:
            with self._http.stream(**_request(call, self.config)) as response:
                try:
                    for piece in response.iter_bytes():
                        content += piece
                except httpx.RemoteProtocolError:  # it broke off in the middle
                    if not content or response.status_code != 200:
                        raise
                    return _answer(call, response, bytes(content), complete=False)
                return _answer(call, response, bytes(content), complete=True)
        except httpx.HTTPError as error:
            raise _failure(call, self.config.url, error) from error


@dataclass
class AsyncGatewayClient:
    """A client on an event loop; the same calls."""

    config: GatewayConfig
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        self._http = httpx.AsyncClient(**_settings(self.config))

    async def __aenter__(self) -> AsyncGatewayClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def run[T](self, call: Call[T], *, attempts: int | None = None) -> T:
        """See `GatewayClient.run`."""
        failures = 0
        while True:
            try:
                answer = await self._once(call)
                if len(answer.text) > LARGE_ANSWER:
                    return await asyncio.to_thread(call.read, answer)
                return call.read(answer)
            except GatewayUnavailable as error:
                failures += 1
                if not call.repeatable or failures >= (attempts or self.patience.attempts):
                    raise
                await asyncio.sleep(self.patience.pause(failures, error))

    async def stream(self, call: Call[Any], *, quiet_seconds: float) -> AsyncIterator[bytes]:
        """See `GatewayClient.stream`."""
        begun = False
        try:
            async with self._http.stream(**_request(call, self.config, quiet_seconds)) as response:
                if response.status_code != 200:
                    _answer(call, response, await response.aread(), complete=True)
                begun = True
                async for piece in response.aiter_bytes():
                    yield piece
        except httpx.HTTPError as error:
            if begun and isinstance(error, httpx.ReadTimeout):
                return
            raise _failure(call, self.config.url, error) from error

    async def _once(self, call: Call[Any]) -> Answer:
        content = bytearray()
        try:
            async with self._http.stream(**_request(call, self.config)) as response:
                try:
                    async for piece in response.aiter_bytes():
                        content += piece
                except httpx.RemoteProtocolError:
                    if not content or response.status_code != 200:
                        raise
                    return _answer(call, response, bytes(content), complete=False)
                return _answer(call, response, bytes(content), complete=True)
        except httpx.HTTPError as error:
            raise _failure(call, self.config.url, error) from error
