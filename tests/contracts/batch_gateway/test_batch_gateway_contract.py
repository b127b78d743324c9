"""The contract of the Batch Processing Gateway, asked of the local one, and of a live one that ``BPG_URL`` names.

``BPG_URL=https://gateway.example/skatev2 BPG_USER=me make test ONLY=tests/contracts``; further ``BPG_PASSWORD``, ``BPG_SPARK_VERSION``,
``BPG_QUEUE``, and ``BPG_CLUSTERS`` with its clusters' ids, comma-separated. Its jobs are SparkPi and are deleted afterwards.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from include.local.aws.trial import trial_aws
from include.local.batch_gateway.config import parse_config
from include.local.batch_gateway.errors import GatewayError
from include.local.batch_gateway.routes import ROUTES, find_operation
from include.local.batch_gateway.trial import trial_gateway
from tests.contracts.batch_gateway.contract_harness import Case, Gateway

CASES = yaml.safe_load((Path(__file__).parent / "contract.yaml").read_text(encoding="utf-8"))
LIVE = [case for case in CASES if "local" not in case]


def named(cases):
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.fixture(scope="module")
def local():
    """Local gateways by their configuration, each started once."""
    made = {}
    with ExitStack() as after:
        aws = after.enter_context(trial_aws(["data-platform"]))

        def get(document):
            key = json.dumps(document, sort_keys=True)
            if key not in made:
                config = parse_config({"listings_per_second": 10_000.0} | document, "contract.yaml")
                given = {field.name: getattr(config, field.name) for field in fields(config)}
                given["rate_limit"] = given.pop("listings_per_second")
                trial = after.enter_context(trial_gateway(aws=aws, **given))
                clusters = tuple(cluster.id for cluster in config.clusters)
                made[key] = Gateway(trial.url, "contract", trial=trial, clusters=clusters)
            return made[key]

        yield get


@pytest.fixture(scope="module")
def live():
    url, environ = os.environ.get("BPG_URL"), os.environ
    if not url:
        pytest.skip("BPG_URL names no live gateway")
    return Gateway(
        url,
        environ.get("BPG_USER", "contract"),
        environ.get("BPG_PASSWORD", ""),
        environ.get("BPG_SPARK_VERSION", "3.5.0"),
        environ.get("BPG_QUEUE", "dev"),
        clusters=tuple(environ.get("BPG_CLUSTERS", "sparkclustera,sparkclusterb").split(",")),
    )


@pytest.mark.parametrize("case", named(CASES))
def test_the_local_gateway_meets_the_contract(local, case):
    gateway = local(case.get("gateway", {}))
    gateway.trial.clear()
    Case(case, gateway).run()


@pytest.mark.parametrize("case", named(LIVE))
def test_a_live_gateway_meets_the_contract(live, case):
    try:
        Case(case, live).run()
    finally:
        live.clean()


def test_every_operation_is_asked_and_refused():
    """An upload is not refused."""
    told = {name: set() for _, _, name in ROUTES}
    for case in CASES:
        request = case.get("request", {"method": "POST", "path": "/spark"})
        with suppress(GatewayError):  # cases of paths that there aren't
            name, _ = find_operation("", request.get("method", "GET"), request["path"])
            told[name].add(case["answer"]["status"] == 200)
    assert {name for name, statuses in told.items() if True not in statuses} == set()
    assert {name for name, statuses in told.items() if False not in statuses} == {"upload"}


def test_the_names_of_the_cases_are_unique():
    names = [case["name"] for case in CASES]
    assert len(names) > 100
    assert sorted(set(names)) == sorted(names)
