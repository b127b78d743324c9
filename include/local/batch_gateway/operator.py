"""The Spark operator of the clusters: takes applications through their states, restarts, expires and ends them.

All it knows is in the store and in the drivers' folders, so that one that is started after a kill goes on where the other was.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from include.local.batch_gateway.kubernetes import MAX_LABEL, is_label
from include.local.batch_gateway.store import TERMINAL, now

if TYPE_CHECKING:
    import threading

    from include.local.batch_gateway.store import Application, Store

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 5
"""Between tries where the submission names no interval."""
_ENDING_MILLIS: Final = 100
"""Between looks at a driver that is to end."""
_AGAIN_MILLIS: Final = 1000
"""Between tries after a mistake of its own."""
_MISTAKES: Final = 3
"""How often in a row the operator may fail at an application before it gives it up."""


class SubmissionFailed(Exception):
    """No driver can be made of an application."""


@dataclass(frozen=True)
class Sight:
    """What is seen of a driver's pod.

    Attributes:
        phase: Pending, Running, Succeeded, Failed; empty where there is none any more.
        reason: why it failed.
        look_after: milliseconds until there can be news.
        facts: columns of the application that are known by now.
    """

    phase: str
    reason: str = ""
    look_after: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


class Drivers(Protocol):
    """What drivers are made of."""

    poll_seconds: float
    """How often new applications are looked for."""

    def wait_before_submission(self, application: Application) -> int:
        """Milliseconds until the operator sees it."""

    def submit(self, application: Application) -> None:
        """Make the driver's pod; it is pending.

        Raises:
            SubmissionFailed: there is none.
        """

    def script(self, application: Application) -> list[tuple[str, int]]:
        """States with their milliseconds that it goes through, whatever an operator would do; mostly none."""

    def look(self, application: Application) -> Sight:
        """What becomes of the driver."""

    def end(self, application: Application) -> bool:
        """Have the driver and all it started end, without waiting for that; whether nothing is left of them."""


class Operator:
    """Plays the operators of all clusters.

    Args:
        store: the clusters.
        drivers: runs what is submitted.
    """

    def __init__(self, store: Store, drivers: Drivers) -> None:
        self._store = store
        self._drivers = drivers
        self._mistakes: Counter[str] = Counter()
        self._too_long: set[str] = set()
        """Those whose driver was told to end, as it ran for too long."""

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            for application in self._store.due(now()):
                try:
                    self.handle(application)
                    del self._mistakes[application.id]
                except Exception as error:  # one application must not keep the others waiting
                    log.exception("%s: a mistake of the operator", application.id)
                    self._try_later(application, error)
            due = self._store.next_due()
            wait = self._drivers.poll_seconds if due is None else (due - now()) / 1000
            stop.wait(min(max(wait, 0.0), self._drivers.poll_seconds))

    def handle(self, application: Application) -> None:
        """Bring one application one step further."""
        if application.deleted is not None:
            self._remove(application)
        elif application.held:
            self._store.advance(application, due=None)
        elif script := self._drivers.script(application):
            self._follow(application, script)
        else:
            self._step(application)

    def _try_later(self, application: Application, error: Exception) -> None:
        """Or never again: what no try gets further fails for everybody to see."""
        self._mistakes[application.id] += 1
        if self._mistakes[application.id] < _MISTAKES or application.deleted is not None:
            self._store.update(application.id, due=now() + _AGAIN_MILLIS)
            return
        del self._mistakes[application.id]
        with contextlib.suppress(Exception):
            self._drivers.end(application)
        reason = f"failed to run SparkApplication {application.id}: {type(error).__name__}: {error}"
        if application.state == "RUNNING":
            self._enter(application, "FAILING", pod="Failed", error=reason, terminated=now(), submissions=0)
        elif application.state in TERMINAL:
            self._store.advance(application, due=None)
        else:
            tries = {"submissions": application.submissions + 1, "tries": application.tries + 1}
            self._enter(application, "SUBMISSION_FAILED", error=reason, pod="", **tries)

    def _remove(self, application: Application) -> None:
        if not self._drivers.end(application):
            self._store.update(application.id, due=now() + _ENDING_MILLIS)
            return
        shutil.rmtree(self._store.folder(application.id), ignore_errors=True)
        if application.purged:
            self._store.erase(application.id)
        else:
            self._store.update(application.id, pod="", due=None)

    def _step(self, application: Application) -> None:
        match application.state:
            case None | "" | "PENDING_RERUN":
                self._submit(application)
            case "SUBMITTED" | "RUNNING":
                self._look(application)
            case "SUBMISSION_FAILED":
                self._retry_or(application, "FAILED", "onSubmissionFailure", application.submissions)
            case "FAILING":
                self._retry_or(application, "FAILED", "onFailure", application.executions)
            case "SUCCEEDING":
                again = _policy(application).get("type") == "Always"
                self._enter(application, "PENDING_RERUN" if again else "COMPLETED")
            case "COMPLETED" | "FAILED":
                self._expire(application)
            case _:  # a state that a test has put it into
                self._store.advance(application, due=None)

    def _submit(self, application: Application) -> None:
        wait = self._drivers.wait_before_submission(application)
        if application.state is None and wait > 0:
            self._store.advance(application, due=now() + wait)
            return
        if application.state is None:
            self._store.tell(application.id, "SparkApplicationAdded", f"{application.id} was added, to be submitted")
        tries = {"submissions": application.submissions + 1, "tries": application.tries + 1}
        try:
            _check_pod(application)
            self._drivers.submit(application)
        except SubmissionFailed as error:
            reason = f"failed to run spark-submit for SparkApplication {application.id}: {error}"
            self._store.tell(application.id, "SparkApplicationSubmissionFailed", reason)
            self._enter(application, "SUBMISSION_FAILED", error=reason, **tries)
            return
        self._store.tell(application.id, "SparkApplicationSubmitted", f"{application.id} was submitted")
        self._store.tell(application.driver, "Scheduled", f"Successfully assigned {application.driver}")
        self._enter(
            application,
            "SUBMITTED",
            app_id=f"spark-{application.id.removeprefix(application.cluster + '-')[:32]}",
            executions=application.executions + 1,
            **tries,
            pod="Pending",
            pod_started=None,
            error=None,
            terminated=None,
        )

    def _look(self, application: Application) -> None:
        sight = self._drivers.look(application)
        if application.id in self._too_long or self._runs_too_long(application, sight):
            self._too_long.add(application.id)
            # As the gateway does, which removes the pod and says nothing more.
            sight = Sight("") if self._drivers.end(application) else Sight("Running", look_after=_ENDING_MILLIS)
        if sight.phase != "Running":
            self._too_long.discard(application.id)
        match sight.phase:
            case "Running" if application.state == "SUBMITTED":
                self._store.tell(application.driver, "Started", "Started container spark-kubernetes-driver")
                self._store.tell(application.id, "SparkDriverRunning", f"Driver {application.driver} is running")
                self._enter(application, "RUNNING", pod="Running", pod_started=now(), **sight.facts)
            case "Succeeded":
                self._store.tell(application.id, "SparkDriverCompleted", f"Driver {application.driver} completed")
                self._enter(application, "SUCCEEDING", pod="Succeeded", terminated=now(), submissions=0)
            case "Failed" | "":
                reason = sight.reason or "driver pod not found"
                self._store.tell(application.id, "SparkDriverFailed", f"Driver {application.driver} failed: {reason}")
                self._enter(application, "FAILING", pod=sight.phase, terminated=now(), error=reason, submissions=0)
            case _:
                self._store.advance(application, due=now() + sight.look_after, **sight.facts)

    def _runs_too_long(self, application: Application, sight: Sight) -> bool:
        limit = int(application.label["maxRunningMillis"])
        return application.state == "RUNNING" and sight.phase == "Running" and now() - application.created > limit

    def _retry_or(self, application: Application, last: str, on: str, tries: int) -> None:
        """Submit it again after its interval, or come to the last state."""
        policy = _policy(application)
        retries = policy.get(f"{on}Retries")
        kind = policy.get("type", "Never")
        if kind != "Always" and (kind != "OnFailure" or retries is None or tries > retries):
            self._enter(application, last, terminated=application.terminated or now())
            return
        seconds = policy.get(f"{on}RetryInterval", _RETRY_SECONDS) * tries
        if (left := application.entered + int(seconds * 1000) - now()) > 0:
            self._store.advance(application, due=now() + left)
        elif application.state == "SUBMISSION_FAILED":
            self._submit(application)
        elif self._drivers.end(application):
            self._enter(application, "PENDING_RERUN", pod="")
        else:
            self._store.advance(application, due=now() + _ENDING_MILLIS)

    def _expire(self, application: Application) -> None:
        finished = application.terminated or application.entered
        expiry = finished + int(application.document["timeToLiveSeconds"]) * 1000
        if now() >= expiry:
            self._store.delete(application.id)
        else:
            self._store.advance(application, due=expiry)

    def _enter(self, application: Application, state: str, **values: Any) -> None:
        moment = now()
        if not self._store.advance(application, state=state, entered=moment, due=moment, **values):
            return
        log.info("%s: %s", application.id, state)
        if state in TERMINAL:
            why = f": {values.get('error') or application.error}" if state == "FAILED" else ""
            self._store.tell(
                application.id, f"SparkApplication{state.capitalize()}", f"{application.id} {state.lower()}{why}"
            )
        elif state == "PENDING_RERUN":
            self._store.tell(
                application.id, "SparkApplicationPendingRerun", f"{application.id} is to be submitted again"
            )

    def _follow(self, application: Application, script: list[tuple[str, int]]) -> None:
        """The next state of a script; `tries` counts those that it has been through."""
        if application.tries >= len(script):
            self._expire(application) if application.state in TERMINAL else self._store.advance(application, due=None)
            return
        state, millis = script[application.tries]
        moment = now()
        self._store.advance(
            application,
            state=state,
            entered=moment,
            due=moment + millis,
            tries=application.tries + 1,
            terminated=moment if state in TERMINAL else None,
            pod={"COMPLETED": "Succeeded", "FAILED": "Failed", "": "", "SUBMITTED": "Pending"}.get(state, "Running"),
            pod_started=application.pod_started or moment,
            app_id=f"spark-{application.id.removeprefix(application.cluster + '-')[:32]}",
            executions=max(1, application.executions),
        )


def _policy(application: Application) -> dict[str, Any]:
    policy: dict[str, Any] = application.document.get("restartPolicy") or {}
    return policy


def _check_pod(application: Application) -> None:
    """What Kubernetes checks when the driver's pod is made.

    Raises:
        SubmissionFailed: the pod's name is too long, or a label's value can't be one.
    """
    if len(application.driver) > MAX_LABEL:
        raise SubmissionFailed(
            f'metadata.name: Invalid value: "{application.driver}": must be no more than {MAX_LABEL} characters'
        )
    for name, value in application.document["driver"].get("labels", {}).items():
        if not is_label(value):
            raise SubmissionFailed(f'metadata.labels: Invalid value: "{value}" of {name}: not a label')
    if not application.document.get("mainApplicationFile"):
        raise SubmissionFailed("Missing application resource")
