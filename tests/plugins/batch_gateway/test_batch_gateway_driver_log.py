"""What becomes of the bytes of a driver's log, however they are cut."""

import asyncio
from dataclasses import dataclass, field

import pytest

from data_platform.batch_gateway.driver_log import DriverLog
from data_platform.batch_gateway.exceptions import GatewayUnavailable
from data_platform.batch_gateway.hook import BatchGatewayHook
from data_platform.batch_gateway.protocol import LOG_SENTINEL
from tests.plugins.batch_gateway.task_harness import CONN_ID
from tests.plugins.batch_gateway.trigger_harness import submit

JOB = "sparkclustera-" + "0" * 32


@dataclass
class Pieces:
    """A client whose log comes in pieces of our choice; the real gateway's are up to the network."""

    pieces: list[bytes]
    error: Exception | None = None
    asked: int = field(default=0)

    async def stream(self, call, *, quiet_seconds):
        self.asked += 1
        for piece in self.pieces:
            yield piece
        if self.error:
            raise self.error


def read(log, *pieces, error=None):
    return asyncio.run(log.read(Pieces(list(pieces), error)))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def log(lines):
    return DriverLog(JOB, lines.append)


def test_lines_are_whole_however_the_log_is_cut(log, lines):
    text = "erste Zeile\nzweite über\nπ ist rund 3,14\n".encode()
    read(log, *(text[at : at + 1] for at in range(len(text))))
    assert lines == ["erste Zeile", "zweite über", "π ist rund 3,14"]
    assert log.position == len(text)


def test_each_call_shows_only_what_is_new(log, lines):
    read(log, b"one\ntwo\nthr")
    read(log, b"one\nt", b"wo\nthree\nfour\n")
    read(log, b"one\ntwo\nthree\nfour\n")
    assert lines == ["one", "two", "three", "four"]


def test_another_reader_goes_on_where_one_was(log, lines):
    read(log, b"one\ntwo\nthr")
    other = DriverLog(JOB, lines.append, position=log.position)
    read(other, b"one\ntwo\nthree\n")
    assert lines == ["one", "two", "three"]


def test_a_call_that_breaks_off_loses_nothing(log, lines):
    assert read(log, b"one\ntw", error=GatewayUnavailable("broken")) == 6
    read(log, b"one\ntwo\n")
    assert lines == ["one", "two"]


def test_the_last_line_without_an_end_is_shown_when_it_is_sure_that_it_is_the_last(log, lines):
    read(log, b"one\nPi is roughly 3.14")
    assert lines == ["one"]
    log.finish()
    assert lines == ["one", "Pi is roughly 3.14"]


@pytest.mark.parametrize("cut", [1, 7, len(LOG_SENTINEL), 200])
def test_the_gateways_word_for_no_log_is_not_shown(log, lines, cut):
    text = f"{LOG_SENTINEL}. Please try again in 5 minutes\n".encode()
    assert read(log, text[:cut], text[cut:]) == 0
    log.finish()
    assert lines == []
    assert log.position == 0


def test_a_log_that_begins_like_that_word_is_shown(log, lines):
    read(log, b"Cannot find", b" table orders\n")
    assert lines == ["Cannot find table orders"]


def test_what_is_over_the_limit_is_left_out_and_that_is_said_once(lines):
    log = DriverLog(JOB, lines.append, max_bytes=10)
    read(log, b"12345\n", b"67890\n", b"x\n")
    assert lines[0] == "12345"
    assert "more than 10 bytes" in lines[1]
    other = DriverLog(JOB, lines.append, max_bytes=10, position=log.position)
    client = Pieces([b"12345\n67890\n"])
    asyncio.run(other.read(client))
    assert client.asked == 0
    assert len(lines) == 2


def test_a_log_of_just_the_limit_is_shown_whole(lines):
    log = DriverLog(JOB, lines.append, max_bytes=6)
    read(log, b"12345\n")
    assert lines == ["12345"]
    assert log.full


def test_a_line_without_end_is_cut(log, lines):
    read(log, b"x" * 10_000 + b"\n")
    assert len(lines[0]) < 5_000
    assert lines[0].endswith("…")


def test_what_never_ends_a_line_is_not_kept_in_memory(log, lines):
    read(log, *[b"x" * 1000] * 200)
    assert len(lines) == 3
    assert len(log._partial) <= 64 * 1024


def test_the_log_of_another_driver_is_shown_from_its_start(log, lines):
    read(log, b"first driver\nhalf a li")
    log.start_again()
    read(log, b"second driver\n")
    assert lines == ["first driver", "second driver"]


def test_bytes_that_are_no_text_are_shown_as_such(log, lines):
    read(log, b"caf\xe9\n")
    assert lines == ["caf\N{REPLACEMENT CHARACTER}"]


def test_a_job_that_has_no_driver_yet_has_no_log(gateway, log, lines):
    job_id = submit(pending=30)

    async def once():
        async with BatchGatewayHook(CONN_ID).new_async_client() as client:
            return await DriverLog(job_id, lines.append).read(client)

    assert asyncio.run(once()) == 0
    assert gateway.asked("log") == 1
    assert lines == []
