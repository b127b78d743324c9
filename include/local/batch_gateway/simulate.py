"""Drivers that do not exist: what becomes of an application, and when, is in its Spark properties.

============================  ==============================================================================================
``spark.simulate.seconds``    how long it runs; 0.2 if nothing is said
``spark.simulate.outcome``    COMPLETED, FAILED or SUBMISSION_FAILED; several with commas are those of its tries, the last is repeated
``spark.simulate.error``      why it fails
``spark.simulate.log_lines``  lines of its log, told evenly while it runs
``spark.simulate.unseen``     seconds before the operator sees it
``spark.simulate.pending``    seconds before its driver runs
``spark.simulate.states``     states with commas that it goes through instead, evenly in its seconds; the last one stays
============================  ==============================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from include.local.batch_gateway.operator import Sight, SubmissionFailed
from include.local.batch_gateway.store import now

if TYPE_CHECKING:
    from include.local.batch_gateway.store import Application, Store

DEFAULT_SECONDS: Final = 0.2
_ERROR: Final = "driver container failed with ExitCode: 1, Reason: Error"


class SimulatedDrivers:
    """No process for anything.

    Args:
        store: where the logs go.
    """

    poll_seconds = 0.02

    def __init__(self, store: Store) -> None:
        self._store = store

    def wait_before_submission(self, application: Application) -> int:
        """As the properties say."""
        return application.created + _millis(application, "unseen") - now()

    def submit(self, application: Application) -> None:
        """Nothing but to fail, if that is its outcome.

        Raises:
            SubmissionFailed: it is.
        """
        if _outcome(application, application.tries) == "SUBMISSION_FAILED":
            raise SubmissionFailed(_property(application, "error", "a submission that was to fail"))

    def script(self, application: Application) -> list[tuple[str, int]]:
        """Its own states, if it has some."""
        told = _property(application, "states", "")
        if not told:
            return []
        states = told.split(",")
        each = _millis(application, "seconds", DEFAULT_SECONDS) // max(1, len(states) - 1)
        return [(state, each) for state in states]

    def look(self, application: Application) -> Sight:
        """By the time since it came into its state."""
        elapsed = now() - application.entered
        if application.state == "SUBMITTED":
            left = _millis(application, "pending") - elapsed
            return Sight("Pending", look_after=left) if left > 0 else Sight("Running")
        duration = _millis(application, "seconds", DEFAULT_SECONDS)
        lines = int(_property(application, "log_lines", "1"))
        told = lines if elapsed >= duration else lines * elapsed // duration
        self._write(application, told)
        if elapsed < duration:
            next_line = duration * (told + 1) // lines if lines else duration
            return Sight("Running", look_after=max(1, min(next_line, duration) - elapsed))
        if _outcome(application, application.tries - 1) == "FAILED":
            return Sight("Failed", _property(application, "error", _ERROR))
        return Sight("Succeeded")

    def end(self, application: Application) -> bool:
        """There is nothing but a log, which goes with its pod."""
        self._store.log_path(application.id).unlink(missing_ok=True)
        return True

    def _write(self, application: Application, lines: int) -> None:
        """Bring the log to so many lines; a restarted operator writes the same ones."""
        path = self._store.log_path(application.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"line {number} of {application.id}\n" for number in range(1, lines + 1)).encode()
        known = path.stat().st_size if path.exists() else 0
        if len(text) > known:
            with path.open("ab") as log:
                log.write(text[known:])


def _property(application: Application, name: str, otherwise: str) -> str:
    return application.spark_conf.get(f"spark.simulate.{name}", otherwise)


def _millis(application: Application, name: str, otherwise: float = 0.0) -> int:
    return int(float(_property(application, name, str(otherwise))) * 1000)


def _outcome(application: Application, tries: int) -> str:
    outcomes = _property(application, "outcome", "COMPLETED").split(",")
    return outcomes[min(tries, len(outcomes) - 1)]
