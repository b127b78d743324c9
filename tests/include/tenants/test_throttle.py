"""Reading no faster than allowed, by a clock that only waiting moves."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from include.tenants.throttle import Bucket, insist


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def bucket(time, units=100.0):
    return Bucket(units, time.clock, time.sleep)


def refusal(code):
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Query")


def test_reads_keep_to_the_rate_after_the_first_second(time):
    limited = bucket(time)
    for _ in range(100):
        limited.take(10)

    assert time.now - 1000 == pytest.approx(9)  # 1,000 units at 100 a second, of which a second's worth at once
    assert limited.waited == pytest.approx(9)


def test_one_read_that_costs_more_than_a_second_is_waited_for(time):
    bucket(time).take(350)

    assert time.now - 1000 == pytest.approx(2.5)


def test_a_pause_saves_up_no_more_than_a_second(time):
    limited = bucket(time)
    time.now += 3600
    limited.take(300)

    assert time.now - 4600 == pytest.approx(2)


def test_a_refusal_halves_the_rate_and_time_wins_it_back(time):
    limited = bucket(time)
    limited.slow_down()
    limited.slow_down()
    assert limited.rate == 25

    time.now += 10
    limited.take(0)
    assert 25 < limited.rate < 100
    time.now += 60
    limited.take(0)
    assert limited.rate == 100


def test_a_clock_that_is_set_back_stops_nobody(time):
    limited = bucket(time)
    limited.take(100)
    time.now -= 5000
    limited.take(100)

    assert limited.waited == pytest.approx(1)


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="more than 0"):
        Bucket(0)


@pytest.mark.parametrize(
    "fault",
    [
        refusal("ProvisionedThroughputExceededException"),
        refusal("LimitExceededException"),
        refusal("InternalServerError"),
        EndpointConnectionError(endpoint_url="https://dynamodb"),
    ],
)
def test_what_passes_is_tried_again(time, fault):
    faults, told = [fault] * 5, []

    def call():
        if faults:
            raise faults.pop()
        return "done"

    assert insist(call, clock=time.clock, sleep=time.sleep, refused=told.append) == "done"
    assert told == [fault] * 5
    assert time.now > 1000


def test_what_does_not_pass_is_told_at_the_end(time):
    def call():
        raise refusal("ThrottlingException")

    with pytest.raises(ClientError, match="ThrottlingException"):
        insist(call, seconds=20, clock=time.clock, sleep=time.sleep)

    assert time.now <= 1020


def test_an_answer_is_not_asked_for_again(time):
    with pytest.raises(ClientError, match="ValidationException"):
        insist(lambda: (_ for _ in ()).throw(refusal("ValidationException")), clock=time.clock, sleep=time.sleep)

    assert time.now == 1000
