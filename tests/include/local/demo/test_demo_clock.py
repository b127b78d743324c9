"""The demo breaks the source only where no build by the clock comes between its steps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.local.demo.quality import BUILD, LATE_SECONDS, STEPS_SECONDS, wait_for_the_clock

HOUR = 3600.0


class Runs:
    """What the platform tells at each look: seconds until the next build by the clock, states of the builds there are."""

    def __init__(self, *looks: tuple[float | None, list[str]]) -> None:
        self.looks = looks
        self.look = 0
        self.api = self

    def request(self, method: str, path: str) -> dict[str, Any]:
        assert (method, path) == ("GET", f"/dags/{BUILD}")
        seconds = self.looks[self.look][0]
        due = None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        return {"next_dagrun_run_after": due}

    def states(self, dag_id: str) -> dict[str, str]:
        assert dag_id == BUILD
        return {f"run {number}": state for number, state in enumerate(self.looks[self.look][1])}

    def wait_until(self, what: str, ready: Any, timeout: float) -> None:
        assert timeout > STEPS_SECONDS
        while not ready():
            self.look += 1


@pytest.mark.parametrize("seconds", [STEPS_SECONDS + 5, HOUR, None, -LATE_SECONDS - 5])
def test_nothing_is_waited_for_where_no_build_is_near(seconds):
    runs = Runs((seconds, ["success", "failed"]))
    wait_for_the_clock(runs)
    assert runs.look == 0


def test_a_build_that_is_due_is_let_pass_and_end(capsys):
    done = ["success"]
    runs = Runs(
        (30.0, done),
        (-0.5, done),  # the scheduler has not made it yet
        (HOUR, [*done, "queued"]),
        (HOUR, [*done, "running"]),
        (HOUR, [*done, "success"]),
    )
    wait_for_the_clock(runs)
    assert runs.look == 4
    assert "due by the clock" in capsys.readouterr().out
