"""Waiting for a job that something else has submitted."""

import time

import pytest

from data_platform.batch_gateway.exceptions import (
    JobFailed,
    JobLost,
)
from data_platform.batch_gateway.sensors import BatchGatewayJobSensor
from tests.plugins.batch_gateway.task_harness import CONN_ID, defer, job, operator


def test_a_sensor_waits_for_anothers_job_and_leaves_it_alone(gateway, ti):
    job_id = defer(operator(job(seconds=1.0), deferrable=True), ti).trigger.submission_id
    sensor = BatchGatewayJobSensor(
        task_id="wait", submission_id=job_id, batch_gateway_conn_id=CONN_ID, deferrable=False, poke_interval=0.2
    )
    assert sensor.poke({}) is False
    gateway.wait_state(job_id, "COMPLETED")
    assert sensor.poke({}) is True
    gateway.remove(job_id)
    time.sleep(0.1)  # the gateway keeps a status for a moment
    with pytest.raises(JobLost):
        sensor.poke({})


def test_a_sensor_sees_a_failure(gateway, ti):
    job_id = defer(operator(job(outcome="FAILED", error="no such table"), deferrable=True), ti).trigger.submission_id
    gateway.wait_state(job_id, "FAILED")
    sensor = BatchGatewayJobSensor(
        task_id="wait", submission_id=job_id, batch_gateway_conn_id=CONN_ID, deferrable=False
    )
    with pytest.raises(JobFailed, match="no such table"):
        sensor.poke({})
