from __future__ import annotations

import time

import pytest
import requests

from include.local.batch_gateway.trial import trial_gateway

PI = "local:///usr/lib/spark/examples/src/main/python/pi.py"


class Client:
    """Asks a gateway as a user of HTTP Basic, once each."""

    def __init__(self, gateway, user="tester"):
        self.gateway = gateway
        self.session = requests.Session()
        self.session.auth = (user, "")
        self.session.trust_env = False

    def ask(self, method, path, **more):
        return self.session.request(method, self.gateway.url + path, **{"timeout": 30} | more)

    def post(self, conf=None, **more):
        """A submission's answer; ``conf`` are Spark properties, those of a simulated run without their beginning."""
        properties = {
            name if "." in name else f"spark.simulate.{name}": str(value) for name, value in (conf or {}).items()
        }
        spec = {"queue": "dev", "sparkVersion": "3.5.0", "mainApplicationFile": PI, "sparkConf": properties}
        return self.ask("POST", "/spark", json=spec | more)

    def submit(self, conf=None, **more):
        answer = self.post(conf, **more)
        answer.raise_for_status()
        return answer.json()["submissionId"]

    def status(self, submission_id):
        """Past the gateway's cache of a second."""
        answer = self.ask("GET", f"/spark/{submission_id}/status")
        return answer.json() if answer.ok else answer.status_code

    def listed(self, name=""):
        answer = self.ask("GET", "/admin/submissions", params={"name": name})
        answer.raise_for_status()
        return answer.text.splitlines()


def wait_for(come, timeout=30):
    """What it gives, as soon as it gives something."""
    deadline = time.monotonic() + timeout
    while not (found := come()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="package")
def served():
    with trial_gateway(rate_limit=10_000, status_cache_millis=0) as gateway:
        yield gateway


@pytest.fixture
def gateway(served):
    served.reset()
    return served


@pytest.fixture
def client(gateway):
    return Client(gateway)


@pytest.fixture
def states(gateway):
    """The states that an application goes through, as events tell them."""

    def told(submission_id):
        from include.local.batch_gateway.store import Store

        store = Store(gateway.home)
        try:
            return [reason for _, reason, _ in store.events(submission_id)]
        finally:
            store.close()

    return told
