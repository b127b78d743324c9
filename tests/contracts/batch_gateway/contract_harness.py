"""Asks a gateway what a case of the contract says, and compares the answer."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

import jwt
import requests
import yaml

from include.local.batch_gateway.config import GatewayConfig

PI = "local:///usr/lib/spark/examples/src/main/python/pi.py"
SUBMISSION_ID = re.compile(r'"submissionId":"([^"]+)"')


def tokens() -> dict[str, str]:
    """Of the local gateway's key, and of none."""
    [key] = GatewayConfig().token_secrets

    def sign(issuer="admin", key=key, **claims):
        return jwt.encode({"iss": issuer, **claims}, key, algorithm="HS256")

    return {
        "token": sign(allowedQueues=["dev", "secure"]),
        "token_airflow": sign("airflow", allowedQueues=["secure"]),
        "token_forged": sign(key="another key that the gateway does not know", allowedQueues=["secure"]),
        "token_other": sign(allowedQueues=["dev"]),
        "token_none": sign(),
        "token_issuer": sign("somebody", allowedQueues=["secure"]),
    }


@dataclass
class Gateway:
    """Where to ask, and as whom.

    Attributes:
        trial: the local one, which has faults and states; None if it is live.
        clusters: ids of the clusters; of a live one, what its own ids tell.
    """

    url: str
    user: str
    password: str = ""
    version: str = "3.5.0"
    queue: str = "dev"
    trial: Any = None
    clusters: tuple[str, ...] = ("sparkclustera", "sparkclusterb")
    jobs: list[str] = field(default_factory=list)

    def job(self, changes: dict[str, Any]) -> dict[str, Any]:
        """A submission; a field that is changed to null is left out."""
        spec = {
            "applicationName": "contract",
            "queue": self.queue,
            "sparkVersion": self.version,
            "mainApplicationFile": PI,
            "driver": {"memory": "1g"},
            "executor": {"memory": "1g"},
        }
        return {name: value for name, value in (spec | changes).items() if value is not None}

    def ask(self, request: dict[str, Any]) -> requests.Response:
        user = request.get("user", self.user)
        name, _, password = (user or "").partition(":")
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                request.get("method", "GET"),
                self.url + request["path"],
                params=request.get("query"),
                headers=request.get("headers", {}),
                auth=(name, password or self.password) if user else None,
                data=request.get("text", "").encode() or None,
                json=request.get("json"),
                timeout=210,
            )

    def submit(self, changes: dict[str, Any], kind: str = "application/json") -> requests.Response:
        rest = {name: changes[name] for name in ("user", "headers", "query") if name in changes}
        spec = self.job({name: value for name, value in changes.items() if name not in rest})
        text = yaml.safe_dump(spec) if "yaml" in kind else json.dumps(spec)
        headers = {"Content-Type": kind} | rest.pop("headers", {})
        answer = self.ask({"method": "POST", "path": "/spark", "text": text, "headers": headers, **rest})
        self.jobs += SUBMISSION_ID.findall(answer.text) if answer.ok else []
        return answer

    def clean(self) -> None:
        """Leave no job of a case on a live gateway."""
        while self.jobs:
            self.ask({"method": "DELETE", "path": f"/spark/{self.jobs.pop()}"})


class Case:
    """One case, filled in for a gateway."""

    def __init__(self, document: dict[str, Any], gateway: Gateway) -> None:
        self._document = document
        self._gateway = gateway
        self._words = {
            "version": gateway.version,
            "queue": gateway.queue,
            "cluster": f"(?:{'|'.join(map(re.escape, gateway.clusters))})",
            "one_cluster": gateway.clusters[0],
            "unknown": f"{gateway.clusters[0]}-{uuid.uuid4().hex}",
            "uuid": uuid.uuid4().hex[:20],
            **tokens(),
        }

    def run(self) -> None:
        trial = self._gateway.trial
        if "job" in self._document:
            answer = self._gateway.submit(self._filled("job"))
            assert answer.status_code == 200, answer.text
            self._words["id"] = answer.json()["submissionId"]
        if "state" in self._document:
            self._words["app_id"] = trial.wait_state(self._words["id"], self._document["state"])["app_id"]
        if "fault" in self._document:
            trial.fault(**self._document["fault"])
        if "before" in self._document:
            assert self._gateway.ask(self._filled("before")).status_code == 200
        if "submits" in self._document:
            answer = self._gateway.submit(self._filled("submits"), self._document.get("as", "application/json"))
        else:
            answer = self._gateway.ask(self._filled("request"))
        Expected(**self._filled("answer")).check(answer)

    def _filled(self, name: str) -> dict[str, Any]:
        filled: dict[str, Any] = self._fill(self._document[name])
        return filled

    def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._fill(one) for one in value]
        if isinstance(value, str):
            return re.sub(r"\{([a-z_]+)\}", lambda match: self._words.get(match[1], match[0]), value)
        return value


@dataclass
class Expected:
    """What an answer is to be."""

    status: int
    json: dict[str, Any] | None = None
    exactly: dict[str, Any] | None = None
    exactly_error: str | None = None
    lacks: list[str] | dict[str, list[str]] | None = None
    message: str | None = None
    text: str | None = None
    without: str | None = None
    lines: list[dict[str, Any]] | None = None

    def check(self, answer: requests.Response) -> None:
        assert answer.status_code == self.status, answer.text
        if self.exactly is not None:
            assert answer.json() == self.exactly
        if self.json is not None:
            assert_holds(answer.json(), self.json)
        if self.exactly_error is not None:
            assert answer.json()["applicationErrorMessage"] == self.exactly_error
        if self.message is not None:
            assert self.message in answer.json()["message"]
        if self.text is not None:
            assert re.search(self.text, answer.text), answer.text
        if self.without is not None:
            assert self.without not in answer.text
        if self.lines is not None:
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert len(lines) == len(self.lines), answer.text
            for line, wanted in zip(lines, self.lines, strict=True):
                assert_holds(line, wanted)
        self._check_lacks(answer)

    def _check_lacks(self, answer: requests.Response) -> None:
        lacks = self.lacks or {}
        for place, names in lacks.items() if isinstance(lacks, dict) else [("", lacks)]:
            found = answer.json()[place] if place else answer.json()
            assert not set(found) & set(names), found


def assert_holds(found: Any, wanted: Any) -> None:
    """All that is wanted is there, whatever else is."""
    if not isinstance(wanted, dict):
        assert found == wanted
        return
    for name, value in wanted.items():
        assert name in found, found
        assert_holds(found[name], value)
