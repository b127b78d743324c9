"""The gateway's REST interface, without a network: what is sent, and how an answer is read.

Each endpoint is one function that returns a `Call`; the clients, blocking or not, only carry calls out. The interface is that of
apple/batch-processing-gateway at aa3e5c8; ``tests/contracts/batch_gateway`` holds a gateway to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from data_platform.batch_gateway.exceptions import (
    BatchGatewayError,
    ClusterUnknown,
    GatewayAccessDenied,
    GatewayConnectionInvalid,
    GatewayRefused,
    GatewayThrottled,
    GatewayUnavailable,
    SubmissionNotFound,
    SubmissionRefused,
)

type Reader[T] = Callable[[Answer], T]

_EXCERPT: Final = 600
"""Characters of an answer that a message quotes."""

_WRONG_CLUSTER: Final = re.compile(r"Cluster \S* \(in submissionId: .*\) not exists|submissionId \S* is invalid")
"""What the gateway says, with 400 or 500, when it reads an unknown cluster id out of a submission id."""

LOOK_SECONDS: Final = 30.0
"""How long an answer about states is waited for: who asks will ask again."""

LOG_SENTINEL: Final = "Cannot find matched log files"
"""How the text begins that the log endpoint gives, with 200, when it has no log."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    """Whether the body came to its end."""


@dataclass(frozen=True)
class Call[T]:
    """One request and how its answer is read.

    Attributes:
        operation: its name in messages and counts.
        repeatable: whether it may be sent again when the answer is lost. A submission may not: it would make a second job.
        seconds: most that the answer is waited for, if that is less than the connection allows.
    """

    operation: str
    method: str
    path: str
    read: Reader[T]
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = ""
    repeatable: bool = True
    seconds: float | None = None


@dataclass(frozen=True)
class JobStatus:
    """What the gateway tells of a job. Times are in milliseconds since the epoch.

    Attributes:
        state: see `states`; a state that is not there is ``UNKNOWN``.
        application_name: only in a listing.
        user: whom the job runs for; only in a listing.
        ui_url: Spark's UI while the job runs; its page in the history server afterwards, if the gateway knows one.
    """

    submission_id: str
    state: str
    application_id: str | None = None
    application_name: str | None = None
    user: str | None = None
    attempts: int | None = None
    created: int | None = None
    terminated: int | None = None
    error: str | None = None
    ui_url: str | None = None

    @classmethod
    def from_json(cls, submission_id: str, document: Mapping[str, Any]) -> JobStatus:
        """Read a status or a summary."""
        return cls(
            submission_id=submission_id,
            state=str(document.get("applicationState") or ""),
            application_id=_text(document, "sparkApplicationId"),
            application_name=_text(document, "applicationName"),
            user=_text(document, "user"),
            attempts=_number(document, "executionAttempts"),
            created=_number(document, "creationTime"),
            terminated=_number(document, "terminationTime"),
            error=_text(document, "applicationErrorMessage"),
            ui_url=_text(document, "sparkUIUrl"),
        )


@dataclass(frozen=True)
class Listing:
    """Jobs, as a listing gave them.

    Attributes:
        complete: whether it was read to its end. A listing that lacks a whole cluster, because that could not be asked, looks complete:
            absence from a listing proves nothing by itself.
    """

    jobs: tuple[JobStatus, ...]
    complete: bool = True

    def named(self, application_name: str) -> tuple[JobStatus, ...]:
        """The jobs of this name, oldest first."""
        found = [job for job in self.jobs if job.application_name == application_name]
        return tuple(sorted(found, key=lambda job: (job.created or 0, job.submission_id)))


def health() -> Call[None]:
    """Whether the gateway answers and lets us in. It does not ask the clusters."""

    def read(answer: Answer) -> None:
        if _json(answer, "health").get("status") != "OK":
            raise GatewayUnavailable(f'health: expected {{"status": "OK"}}, found {answer.text[:_EXCERPT]}')

    return Call("health", "GET", "/healthcheck/status", read)


def submit(request: Mapping[str, Any], *, proxied_user: str | None = None) -> Call[str]:
    """Submit a job; gives its submission id. Sent once: who loses the answer must look the job up by its name."""
    return Call(
        "submit",
        "POST",
        "/spark",
        lambda answer: _told(answer, "submit", "submissionId"),
        params={"dagUser": proxied_user} if proxied_user else {},
        content=json.dumps(request).encode(),
        content_type="application/json",
        repeatable=False,
    )


def status(submission_id: str) -> Call[JobStatus]:
    """A job's status; the gateway may be 990 ms behind."""
    return Call(
        "status",
        "GET",
        f"/spark/{_segment(submission_id)}/status",
        lambda answer: JobStatus.from_json(submission_id, _json(answer, "status")),
        seconds=LOOK_SECONDS,
    )


def find(application_name: str) -> Call[Listing]:
    """All jobs of this application name, of all users."""
    return Call(
        "list", "GET", "/admin/submissions", _read_ndjson, params={"name": application_name}, seconds=LOOK_SECONDS
    )


def list_all() -> Call[Listing]:
    """All jobs of all users on all clusters."""
    return Call("list", "GET", "/admin/submissions", _read_ndjson, seconds=LOOK_SECONDS)


def list_mine() -> Call[Listing]:
    """The jobs that run for this user account. Not those of a proxied user."""

    def read(answer: Answer) -> Listing:
        jobs = _json(answer, "my_submissions").get("submissions") or []
        return Listing(tuple(_summaries(jobs)), answer.complete)

    return Call("my_submissions", "GET", "/spark/mySubmissions", read, seconds=LOOK_SECONDS)


def delete(submission_id: str) -> Call[None]:
    """Remove a job; the gateway says 200 even if there is none."""
    return Call("delete", "DELETE", f"/spark/{_segment(submission_id)}", lambda _: None)


def spec(submission_id: str) -> Call[dict[str, Any]]:
    """The job's spec as the cluster has it, without its environment variables."""
    return Call("spec", "GET", f"/spark/{_segment(submission_id)}/spec", lambda answer: _json(answer, "spec"))


def driver(submission_id: str) -> Call[dict[str, Any]]:
    """``podName`` and ``startTime`` of the driver; empty before it has started."""
    return Call("driver", "GET", f"/spark/{_segment(submission_id)}/driver", lambda answer: _json(answer, "driver"))


def describe(submission_id: str) -> Call[str]:
    """The job's spec and what happened to it and its driver, as text: the best there is to understand a failure."""
    return Call("describe", "GET", f"/spark/{_segment(submission_id)}/describe", lambda answer: answer.text)


def log(submission_id: str) -> Call[str]:
    """The driver's log from its start, followed until the driver ends; read it with a client's ``stream``."""
    return Call("log", "GET", "/log", lambda answer: answer.text, params={"subId": submission_id})


def upload(name: str, content: bytes, *, folder: str) -> Call[str]:
    """Put a file where the clusters read it; gives its URL (``s3a://…``). The gateway's bucket must be in us-west-2."""
    return Call(
        "upload",
        "POST",
        f"/s3/{_segment(name)}",
        lambda answer: _told(answer, "upload", "url"),
        params={"folder": folder},
        content=content,
        content_type="application/octet-stream",
    )


def check(call: Call[Any], answer: Answer) -> None:
    """Turn an answer that is no success into the error it stands for.

    Raises:
        GatewayAccessDenied: 401, 403.
        GatewayThrottled: 429.
        ClusterUnknown: the gateway does not know the cluster that it reads out of the submission id.
        SubmissionNotFound: 404 by the gateway itself.
        GatewayConnectionInvalid: 404 by something else, or a redirection: the base path is wrong.
        SubmissionRefused, GatewayRefused: other 4xx.
        GatewayUnavailable: 5xx.
    """
    if 200 <= answer.status < 300:
        return
    message = error_message(answer)
    told = f"{call.operation}: expected success, found {answer.status}: {message}"
    if answer.status in (401, 403):
        raise GatewayAccessDenied(f"{told}. Check login, password and User-Account of the connection")
    if answer.status == 429:
        raise GatewayThrottled(told, status=429, reached=False, retry_after=_retry_after(answer))
    if call.operation not in ("submit", "upload") and _WRONG_CLUSTER.search(message):
        raise ClusterUnknown(
            f"{told}. The gateway takes what is before the first dash of a submission id for the cluster's id: "
            "give the cluster an id without dashes in the gateway's configuration"
        )
    if answer.status == 404 and _is_gateways_own(answer) and call.path.startswith("/spark/"):
        raise SubmissionNotFound(told)
    if answer.status == 404 or 300 <= answer.status < 400:
        raise _nothing_there(call, answer, told)
    if answer.status < 500:
        raise SubmissionRefused(told) if call.operation == "submit" else GatewayRefused(told)
    raise GatewayUnavailable(told, status=answer.status, retry_after=_retry_after(answer))


def error_message(answer: Answer) -> str:
    """What the gateway says of an error, or the beginning of whatever came instead."""
    try:
        document = json.loads(answer.text)
        return str(document["message"])[:_EXCERPT]
    except (ValueError, KeyError, TypeError):
        return " ".join(answer.text.split())[:_EXCERPT] or "an empty answer"


def _nothing_there(call: Call[Any], answer: Answer, told: str) -> BatchGatewayError:
    """A job is not lost because a load balancer has no gateway behind it; a submission to a wrong path was not accepted."""
    if call.path.startswith("/spark/"):
        return GatewayUnavailable(told, status=answer.status, reached=False)
    return GatewayConnectionInvalid(f"{told}. Check host and base path of the connection: the gateway is not there")


def _is_gateways_own(answer: Answer) -> bool:
    try:
        return int(json.loads(answer.text)["code"]) == answer.status
    except (ValueError, KeyError, TypeError):
        return False


def _json(answer: Answer, operation: str) -> dict[str, Any]:
    try:
        document = json.loads(answer.text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise GatewayUnavailable(
            f"{operation}: expected a JSON object, found {answer.text[:_EXCERPT]!r}", status=answer.status
        )
    return document


def _told(answer: Answer, operation: str, key: str) -> str:
    """What the answer is there to tell."""
    told = _json(answer, operation).get(key)
    if not isinstance(told, str) or not told:
        raise GatewayUnavailable(f"{operation}: expected a {key}, found {answer.text[:_EXCERPT]}")
    return told


def _read_ndjson(answer: Answer) -> Listing:
    """Read line by line. A line that can't be read is where the listing broke off."""
    complete = answer.complete
    documents = []
    for line in answer.text.split("\n"):  # splitlines would cut at characters that JSON may hold
        if not line.strip():
            continue
        try:
            documents.append(json.loads(line))
        except ValueError:
            complete = False
    return Listing(tuple(_summaries(documents)), complete)


def _summaries(documents: list[Any]) -> list[JobStatus]:
    return [
        JobStatus.from_json(document["submissionId"], document)
        for document in documents
        if isinstance(document, dict) and isinstance(document.get("submissionId"), str)
    ]


def _segment(text: str) -> str:
    return quote(text, safe="")


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return str(value) if value not in (None, "") else None


def _number(document: Mapping[str, Any], key: str) -> int | None:
    value = document.get(key)
    return int(value) if isinstance(value, int | float) else None


def _retry_after(answer: Answer) -> float | None:
    try:
        return float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
