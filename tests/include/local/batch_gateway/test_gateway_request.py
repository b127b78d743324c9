"""What the gateway reads of a submission and shows nobody: see the contract for what it shows."""

from __future__ import annotations

import json

from include.local.batch_gateway.request import parse_request


def test_a_variable_gets_its_value_from_a_field_of_the_pod_and_from_nowhere_else():
    env = [
        {"name": 1, "value": True},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP", "apiVersion": "v1"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
    ]

    request = parse_request(json.dumps({"driver": {"env": env}}).encode(), "application/json")

    assert request["driver"]["env"] == [
        {"name": "1", "value": "true"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "KEY", "valueFrom": {}},
    ]
