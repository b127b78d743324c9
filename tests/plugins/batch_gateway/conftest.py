import json

import pytest

from data_platform.batch_gateway import hook
from include.local.batch_gateway.trial import trial_gateway
from tests.plugins.batch_gateway.task_harness import CONN_ID, TaskInstance


@pytest.fixture(scope="session")
def one_gateway():
    with trial_gateway(status_cache_millis=20, rate_limit=1000) as gateway:  # the contract tests keep its real pace
        yield gateway


@pytest.fixture
def connect_to(monkeypatch):
    """Point the connection under test at a gateway."""
    monkeypatch.setattr(hook, "QUIET_SECONDS", 0.5)  # a kill waits so long for more of the log of a job that runs on

    def point(gateway, **extra):
        told = {"base_path": gateway.base_path, "settle_seconds": 1.5, "read_timeout_seconds": 5, **extra}
        connection = {
            "conn_type": "batch_gateway",
            "host": gateway.server,
            "login": "airflow",
            "password": "pass-word",
            "extra": told,
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))

    return point


@pytest.fixture
def gateway(one_gateway, connect_to):
    """A gateway as new, and the connection to it."""
    one_gateway.reset()
    connect_to(one_gateway)
    yield one_gateway
    one_gateway.clear()


@pytest.fixture
def ti():
    return TaskInstance()
