"""Watches jobs on one event loop, as a triggerer does, and tells what that took. Run by `bench.gateway_triggerer` in a process of its own.

Reads from standard input what to watch, and how: ``shared`` is the trigger, ``each`` a client that asks for each job by itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from typing import Any, Final

import httpx

TICK_SECONDS: Final = 0.01
TERMINAL: Final = ("COMPLETED", "FAILED")


async def tick(lags: list[float], stop: asyncio.Event) -> None:
    """How late a timer of 10 ms is."""
    while not stop.is_set():
        due = time.perf_counter() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        lags.append(time.perf_counter() - due)


async def trigger(job: str, told: dict[str, Any], ends: dict[str, float]) -> None:
    """One deferred task."""
    from data_platform.batch_gateway.triggers import BatchGatewayJobTrigger

    one = BatchGatewayJobTrigger(
        batch_gateway_conn_id=told["conn_id"],
        submission_id=job,
        poll_seconds=told["poll_seconds"],
        log_max_bytes=told["log_max_bytes"],
    )
    async for event in one.run():
        ends[job] = time.time()
        assert event.payload["ending"] == "completed", event.payload


async def ask(client: httpx.AsyncClient, job: str, poll_seconds: float, ends: dict[str, float]) -> None:
    """The same with one request per look."""
    await asyncio.sleep(random.uniform(0, poll_seconds))
    while True:
        answer = await client.get(f"/spark/{job}/status")
        answer.raise_for_status()
        if answer.json().get("applicationState") in TERMINAL:
            ends[job] = time.time()
            return
        await asyncio.sleep(poll_seconds)


async def watch(told: dict[str, Any]) -> dict[str, Any]:
    """Watch all to their end."""
    ends: dict[str, float] = {}
    lags: list[float] = []
    stop = asyncio.Event()
    ticker = asyncio.create_task(tick(lags, stop))
    began, cpu = time.perf_counter(), cpu_seconds()
    if told["how"] == "each":
        limits = httpx.Limits(max_connections=50, max_keepalive_connections=20)  # those of the package's own client
        login = ("airflow", "pass-word")
        async with httpx.AsyncClient(base_url=told["url"], auth=login, limits=limits, trust_env=False) as client:
            await asyncio.gather(*(ask(client, job, told["poll_seconds"], ends) for job in told["jobs"]))
    else:
        await asyncio.gather(*(trigger(job, told, ends) for job in told["jobs"]))
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    stop.set()
    await ticker
    return {"ends": ends, "lags": lags, "seconds": seconds, "cpu_seconds": cpu}


def cpu_seconds() -> float:
    """CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    import data_platform.batch_gateway.triggers  # noqa: F401 - a triggerer has it imported

    print("ready", flush=True)
    told = json.loads(sys.stdin.readline())
    result = asyncio.run(watch(told))
    print(f"result {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
