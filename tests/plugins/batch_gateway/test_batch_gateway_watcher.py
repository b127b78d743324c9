"""How many requests the states of jobs cost, and what a look that fails means."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway import watcher as watcher_module
from data_platform.batch_gateway.client import AsyncGatewayClient, Patience
from data_platform.batch_gateway.exceptions import GatewayThrottled, GatewayUnavailable
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.protocol import JobStatus
from data_platform.batch_gateway.watcher import LISTING_FROM, TOLD_AT_ONCE, Watcher, shared_watcher
from tests.plugins.batch_gateway.task_harness import CONN_ID
from tests.plugins.batch_gateway.trigger_harness import submit


async def connect():
    return BatchGatewayHook(CONN_ID).new_async_client()


@contextlib.asynccontextmanager
async def a_watcher(**arguments):
    watcher = Watcher(connect, **{"poll_seconds": 0.05, **arguments})
    try:
        yield watcher
    finally:
        await watcher.close()


async def sightings(watcher, job_id, count):
    """The first so many."""
    seen = []
    async with contextlib.aclosing(watcher.watch(job_id)) as found:
        while len(seen) < count:
            seen.append(await anext(found))
    return seen


async def watch_all(watcher, job_ids, count=3):
    return await asyncio.gather(*(sightings(watcher, job_id, count) for job_id in job_ids))


@pytest.mark.parametrize(("jobs", "operation"), [(LISTING_FROM - 1, "status"), (LISTING_FROM, "my_submissions")])
def test_few_jobs_are_asked_for_one_by_one_and_many_by_one_listing(gateway, jobs, operation):
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(jobs)]

    async def look():
        async with a_watcher() as watcher:
            found = await watch_all(watcher, job_ids)
        assert [seen[-1].status.submission_id for seen in found] == job_ids

    asyncio.run(look())
    assert gateway.asked(operation) >= 3
    assert gateway.asked({"status": "my_submissions", "my_submissions": "status"}[operation]) == 0


def test_jobs_that_run_for_another_user_are_listed_among_all(gateway, connect_to):
    connect_to(gateway, user_account="airflow_system_account", proxied_user="finance")
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]

    async def look():
        async with a_watcher(proxied=True) as watcher:
            return await watch_all(watcher, job_ids)

    asyncio.run(look())
    assert gateway.asked("my_submissions") == gateway.asked("status") == 0


def test_a_long_listing_lets_other_tasks_have_their_turns(gateway):
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(3 * TOLD_AT_ONCE)]
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def first_heard(watcher, job_id):
        async with contextlib.aclosing(watcher.watch(job_id)) as found:
            await anext(found)
            return turns

    async def look():
        counter = asyncio.create_task(count_turns())
        async with a_watcher() as watcher:
            heard = await asyncio.gather(*(first_heard(watcher, job_id) for job_id in job_ids))
        counter.cancel()
        return heard

    heard = asyncio.run(look())
    assert max(heard.count(turn) for turn in set(heard)) <= TOLD_AT_ONCE


@pytest.mark.parametrize("also_mine", [0, LISTING_FROM], ids=["all of them", "some of them"])
def test_jobs_that_the_accounts_own_listing_lacks_are_found_in_everybodys(gateway, connect_to, also_mine):
    """Jobs of the gateway's Airflow system accounts are filed under another user, whether the connection names one or not."""
    mine = [submit(f"mine-{number}", seconds=60) for number in range(also_mine)]
    connect_to(gateway, user_account="airflow_system_account")
    others = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    connect_to(gateway)

    async def look():
        async with a_watcher() as watcher:
            return await watch_all(watcher, [*mine, *others])

    found = asyncio.run(look())
    assert not any(sighting.lost or sighting.error for seen in found for sighting in seen)
    assert gateway.asked("status") == 0
    assert gateway.asked("my_submissions") == 1


def test_what_every_listing_lacks_is_asked_for_by_itself(gateway, connect_to):
    connect_to(gateway, user_account="somebody")
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    connect_to(gateway)
    gateway.fault("list", cut_at="sparkclustera")

    async def look():
        async with a_watcher() as watcher:
            return await watch_all(watcher, job_ids)

    found = asyncio.run(look())
    assert not any(sighting.lost or sighting.error for seen in found for sighting in seen)
    assert gateway.asked("status") >= 3


def test_two_who_wait_for_one_job_cost_one_look(gateway):
    job_id = submit(seconds=60)

    async def look():
        async with a_watcher() as watcher:
            first, second = await watch_all(watcher, [job_id, job_id], count=5)
        assert len(first) == len(second) == 5

    asyncio.run(look())
    assert gateway.asked("status") <= 6


def test_who_is_slow_gets_the_newest_sighting(gateway):
    job_id = submit(seconds=60)

    async def look():
        async with a_watcher() as watcher, contextlib.aclosing(watcher.watch(job_id)) as found:
            await anext(found)
            gateway.set_state(job_id, "COMPLETED", held=True)
            before = gateway.asked("status")
            await asyncio.to_thread(gateway.wait_until_asked, "status", before + 4)
            return await anext(found)

    assert asyncio.run(look()).status.state == "COMPLETED"


def test_one_answer_of_not_found_does_not_make_a_job_lost(gateway):
    job_id = submit(seconds=60)
    gateway.fault("status", status=404, times=1, after=1)

    async def look():
        async with a_watcher() as watcher:
            return await sightings(watcher, job_id, 4)

    assert not any(sighting.lost for sighting in asyncio.run(look()))
    assert gateway.asked("status") >= 5


def test_a_job_that_is_not_found_again_is_lost_and_no_longer_asked_for(gateway):
    job_id = submit(seconds=60)
    gateway.remove(job_id)

    async def look():
        async with a_watcher() as watcher:
            return [sighting async for sighting in watcher.watch(job_id)]

    (only,) = asyncio.run(look())
    assert only.lost
    assert gateway.asked("status") == 2


def test_a_page_of_something_else_does_not_make_a_job_lost(gateway):
    job_id = submit(seconds=60)
    gateway.fault("status", status=404, body="<html>default backend - 404</html>", times=8)

    async def look():
        async with a_watcher() as watcher:
            return await sightings(watcher, job_id, 2)

    failed, _ = asyncio.run(look())
    assert isinstance(failed.error, GatewayUnavailable)


def test_a_listing_that_is_refused_is_told_to_all_and_asked_for_again(gateway):
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    gateway.fault("my_submissions", status=429, times=1)

    async def look():
        async with a_watcher() as watcher:
            return await watch_all(watcher, job_ids, count=2)

    for first, second in asyncio.run(look()):
        assert isinstance(first.error, GatewayThrottled)
        assert second.status is not None


def test_a_mistake_of_our_own_ends_no_watch(gateway, caplog):
    job_id = submit(seconds=60)
    failures = iter([OSError("no file descriptors left")])

    async def connect_at_the_second_try():
        if error := next(failures, None):
            raise error
        return await connect()

    async def look():
        watcher = Watcher(connect_at_the_second_try, poll_seconds=0.05)
        try:
            return await sightings(watcher, job_id, 2)
        finally:
            await watcher.close()

    first, second = asyncio.run(look())
    assert "no file descriptors left" in str(first.error)
    assert second.status.submission_id == job_id
    assert "could not be looked at" in caplog.text


def test_a_watcher_is_shared_by_all_who_ask_for_it_and_made_anew_after_the_last_has_left(gateway):
    made = []

    def make():
        made.append(Watcher(connect, poll_seconds=0.05))
        return made[-1]

    async def share():
        async with shared_watcher("one", make) as first, shared_watcher("one", make) as second:
            assert first is second
            async with shared_watcher("other", make) as other:
                assert other is not first
        async with shared_watcher("one", make) as later:
            assert later is not first

    asyncio.run(share())
    assert len(made) == 3


def test_many_who_come_at_once_ask_for_the_connection_once(gateway):
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(10)]
    asked = []

    async def slow_connect():
        asked.append(1)
        await asyncio.sleep(0.05)
        return await connect()

    async def share(job_id):
        async with shared_watcher("one", lambda: Watcher(slow_connect, poll_seconds=0.05)) as watcher:
            return await sightings(watcher, job_id, 2)

    async def all_at_once():
        return await asyncio.gather(*(share(job_id) for job_id in job_ids))

    assert len(asyncio.run(all_at_once())) == 10
    assert len(asked) == 1


def test_a_connection_that_was_mended_is_read_again(gateway, connect_to):
    """A gateway that moved answers nothing at its old address: no access was denied, so that alone would tell nobody."""
    job_id = submit(seconds=60)
    hosts = iter(["http://127.0.0.1:9"])

    async def connect_to_what_is_said():
        hook = BatchGatewayHook(CONN_ID)
        config = replace(hook.config, url=next(hosts, hook.config.url))
        return AsyncGatewayClient(config, Patience(attempts=1))

    async def look():
        watcher = Watcher(connect_to_what_is_said, poll_seconds=0.01)
        try:
            async with contextlib.aclosing(watcher.watch(job_id)) as found:
                async for sighting in found:
                    if sighting.status:
                        return sighting.status
        finally:
            await watcher.close()

    assert asyncio.run(look()).submission_id == job_id


def test_applications_that_the_gateway_did_not_make_blind_nobody(gateway, connect_to, monkeypatch):
    """Kubernetes lists whatever is in the namespace, by any name."""
    connect_to(gateway, user_account="airflow_system_account", proxied_user="finance")
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    real = protocol.list_all

    def with_a_stranger():
        call = real()
        stranger = JobStatus("nightly-report", "RUNNING")
        return replace(call, read=lambda answer: replace(listing := call.read(answer), jobs=(*listing.jobs, stranger)))

    monkeypatch.setattr(protocol, "list_all", with_a_stranger)

    async def look():
        async with a_watcher(proxied=True) as watcher:
            return await watch_all(watcher, job_ids)

    assert not any(sighting.error for seen in asyncio.run(look()) for sighting in seen)


def test_one_cluster_that_can_not_be_asked_blinds_only_its_own_jobs(gateway):
    """The account's own listing fails as a whole then."""
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    gateway.fault("my_submissions", status=500)

    async def look():
        async with a_watcher() as watcher:
            return await watch_all(watcher, job_ids)

    assert not any(sighting.error for seen in asyncio.run(look()) for sighting in seen)
    assert gateway.asked("status") >= LISTING_FROM


def test_a_long_listing_is_not_asked_for_again_for_a_few_jobs(gateway):
    finished = [submit(f"old-{number}", seconds=0) for number in range(5)]
    job_ids = [submit(f"job-{number}", seconds=60) for number in range(LISTING_FROM)]
    gateway.wait_state(finished[-1], "COMPLETED")

    async def look(monkeypatch):
        monkeypatch.setattr(watcher_module, "ROWS_PER_JOB", 1)
        async with a_watcher() as watcher:
            return await watch_all(watcher, job_ids)

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(look(monkeypatch))
    assert gateway.asked("my_submissions") == 1
    assert gateway.asked("status") >= 2 * LISTING_FROM


def test_each_event_loop_has_a_watcher_of_its_own(gateway):
    job_id = submit(seconds=60)

    async def look():
        async with shared_watcher("one", lambda: Watcher(connect, poll_seconds=0.05)) as watcher:
            await sightings(watcher, job_id, 1)
            return watcher

    assert asyncio.run(look()) is not asyncio.run(look())
