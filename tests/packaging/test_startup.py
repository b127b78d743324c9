"""The startup script, run in a folder that is AIRFLOW_HOME, with the package's wheels and no index."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from include.local.mwaa.package import STARTUP_SCRIPT

# As MWAA's images run it: sourced by a shell that keeps the environment, and in which `exit` is an alias that keeps it, too.
SOURCED = r"""
shopt -s expand_aliases
keep_environment() { env -0 > "$KEPT"; unalias exit; exit 0; }
alias exit=keep_environment
source "$1"
keep_environment
"""


STEPS = [(240, "-m venv"), (240, "-m pip"), (280, "-c import")]
"""What takes long, and by when since the script's start it must have ended."""


@dataclass
class Container:
    """One MWAA container: AIRFLOW_HOME with plugins.zip unpacked, Python 3.12 on PATH, pip settings that must not matter."""

    home: Path
    script: Path = STARTUP_SCRIPT

    @property
    def venv(self) -> Path:
        return self.home / "warehouse-venv"

    @property
    def wheels(self) -> Path:
        return self.home / "plugins" / "wheels" / "warehouse"

    @property
    def complete(self) -> bool:
        return (self.venv / ".complete").exists()

    def environment(self, component, **more):
        bin_ = self.home / "bin"
        bin_.mkdir(parents=True, exist_ok=True)
        python = bin_ / "python3"
        if not python.is_symlink() and not python.exists():
            python.symlink_to(sys._base_executable)
        return {
            "PATH": f"{bin_}:/usr/bin:/bin",
            "HOME": str(self.home),
            "AIRFLOW_HOME": str(self.home),
            "MWAA_AIRFLOW_COMPONENT": component,
            "PYTHONPATH": "/python",
            "PIP_USER": "true",
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            **more,
        }

    def start(self, component):
        return subprocess.Popen(
            ["bash", str(self.script)],
            env=self.environment(component),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, component="worker", **more):
        return subprocess.run(
            ["bash", str(self.script)],
            env=self.environment(component, **more),
            capture_output=True,
            text=True,
        )

    def run_as_mwaa(self, component="worker", **more):
        """Exit status, and the environment that MWAA would go on with; None if it would not go on."""
        kept = self.home / "kept"
        kept.unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-c", SOURCED, "startup", str(self.script)],
            env=self.environment(component, KEPT=str(kept), **more),
            capture_output=True,
            text=True,
        )
        if not kept.exists():
            return done, None
        return done, dict(entry.split("=", 1) for entry in kept.read_text().rstrip("\0").split("\0"))


@pytest.fixture
def container(tmp_path):
    return Container(tmp_path / "airflow")


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    """An environment with nothing but pip: to make one takes seconds, to copy one does not. `worker` makes its own."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys._base_executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def small(container, package, empty_environment):
    """A container whose lock has a pin that pip can install at once, and whose python3 copies the environment that it is to make."""
    python = container.home / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\n[ "$1 $2" != "-m venv" ] || exec cp -R {empty_environment}/. "$3"\nexec {sys._base_executable} "$@"\n'
    )
    python.chmod(0o755)
    container.wheels.mkdir(parents=True)
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        lock = archive.read("wheels/warehouse/lock.txt").decode()
        pin = lock[lock.index("six==") :].split("\n", 1)
        hashes = [line for line in pin[1].splitlines() if line.startswith("    ")]
        hashes = hashes[: next(i for i, line in enumerate(hashes) if not line.endswith("\\")) + 1]
        (container.wheels / "lock.txt").write_text("\n".join([pin[0], *hashes]) + "\n")
        [wheel] = [name for name in archive.namelist() if name.startswith("wheels/warehouse/six-")]
        (container.wheels / Path(wheel).name).write_bytes(archive.read(wheel))
    return container


@pytest.fixture(scope="module")
def worker(package, tmp_path_factory):
    """A worker that was killed while it built, then started again: built once for all tests of this file."""
    container = Container(tmp_path_factory.mktemp("worker") / "airflow", package.folder / "startup.sh")
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        archive.extractall(container.home / "plugins")
    first = container.start("worker")
    deadline = time.monotonic() + 120
    installed = container.venv / "lib" / "python3.12" / "site-packages" / "pip"
    while not installed.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert installed.exists(), first.stdout.read()
    assert not container.complete
    second = container.run("worker")
    assert second.returncode == 0, second.stdout + second.stderr
    container.said = second.stdout
    return container


def test_a_build_that_was_killed_is_built_anew(worker):
    assert "was built in" in worker.said
    assert worker.complete
    assert not (worker.venv / ".building").exists()


def test_a_complete_environment_is_left_as_it_is(worker):
    (worker.venv / "witness").touch()
    done = worker.run("worker")
    assert done.returncode == 0
    assert done.stdout == f"startup: the warehouse environment at {worker.venv} is complete\n"
    assert (worker.venv / "witness").exists()


def test_it_has_dbt_and_soda_for_redshift_and_not_the_stand_in_warehouse(worker):
    ask = "import importlib.metadata as m; print(*sorted({d.metadata['Name'].lower() for d in m.distributions()}))"
    names = subprocess.run(
        [worker.venv / "bin" / "python", "-I", "-c", ask], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"dbt-core", "dbt-redshift", "soda-core", "soda-core-redshift"} <= set(names)
    assert not [name for name in names if "duckdb" in name]


@pytest.mark.warehouse
def test_dbt_parses_the_packaged_project_for_redshift(worker, package, tmp_path):
    project = package.folder / "dags" / "dbt_project"
    done = subprocess.run(
        [
            *(worker.venv / "bin" / "dbt", "--no-use-colors", "--no-version-check", "parse", "--target", "redshift"),
            *("--project-dir", project, "--profiles-dir", project),
            *("--target-path", tmp_path / "target", "--log-path", tmp_path / "logs"),
        ],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "DBT_REDSHIFT_HOST": "redshift.invalid",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "target" / "manifest.json").exists()


def test_the_packaged_soda_runner_starts_in_it(worker, package):
    """It refuses an empty job, so all that it imports at once is there."""
    runner = package.folder / "dags" / "include" / "quality" / "soda_runner.py"
    done = subprocess.run([worker.venv / "bin" / "python", runner], input="{}", capture_output=True, text=True)
    assert "KeyError" in done.stderr
    assert "ModuleNotFoundError" not in done.stderr


def test_mwaa_goes_on_with_what_tasks_need_and_without_what_only_the_build_needs(worker):
    done, kept = worker.run_as_mwaa("worker")
    assert kept is not None, done.stderr
    before = worker.environment("worker")
    added = {
        name: value for name, value in kept.items() if name not in before and name not in ("KEPT", "_", "PWD", "SHLVL")
    }
    assert added == {"AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV": str(worker.venv), "DO_NOT_TRACK": "1"}
    assert kept["PIP_USER"] == "true"  # requirements.txt is installed after this


@pytest.mark.parametrize("component", ["webserver", "scheduler", "triggerer", "dag-processor", ""])
def test_other_components_build_nothing_and_look_for_nothing(container, component):
    done, kept = container.run_as_mwaa(component)
    assert (done.stdout, done.stderr) == ("", "")
    assert kept["AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV"] == str(container.venv)
    assert not container.venv.exists()


def test_an_option_of_the_environment_says_where_to_build(container):
    elsewhere = str(container.home / "elsewhere")
    _, kept = container.run_as_mwaa("scheduler", AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV=elsewhere)
    assert kept["AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV"] == elsewhere


def refused(container, component="worker"):
    """What is said when the script fails: by itself with an exit status, under MWAA without an environment to go on with."""
    done, kept = container.run_as_mwaa(component)
    assert kept is None
    assert done.returncode == 1
    assert not container.complete
    last = done.stderr.splitlines()[-1]
    assert last == "startup: the warehouse environment could not be built; this worker does not start"
    return done.stderr


def test_the_only_container_of_the_smallest_class_is_a_worker_too(worker):
    done, kept = worker.run_as_mwaa("hybrid")
    assert "is complete" in done.stdout
    assert kept is not None


def test_a_missing_wheel_is_told_and_the_worker_does_not_start(small):
    for wheel in small.wheels.glob("*.whl"):
        wheel.unlink()
    said = refused(small)
    assert "six" in said
    assert "startup: pip could not install" in said
    assert "build the package again with make package-mwaa" in said


def test_a_wheel_that_is_not_the_one_of_the_lock_is_refused(small):
    [wheel] = small.wheels.glob("*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    said = refused(small)
    assert "DO NOT MATCH THE HASHES" in said
    assert "startup: pip could not install" in said


def test_an_environment_of_another_package_is_built_anew_and_not_called_complete_without_dbt(small):
    small.venv.mkdir()
    (small.venv / "pyvenv.cfg").touch()
    (small.venv / ".complete").write_text("of another lock\n")
    (small.venv / "old").touch()
    assert "startup: dbt and Soda were installed but can't be imported" in refused(small)
    assert not (small.venv / "old").exists()


def test_a_folder_that_is_no_environment_is_not_emptied(small):
    small.venv.mkdir()
    (small.venv / "precious").touch()
    assert "found something else; set data_platform.warehouse_venv to a path of its own" in refused(small)
    assert (small.venv / "precious").exists()


def test_another_python_is_told(small):
    environment = small.environment("worker")
    (small.home / "bin" / "python3").unlink()
    python = Path(environment["PATH"].split(":")[0]) / "python3"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.14.0"\nexit 1\n')
    python.chmod(0o755)
    assert "startup: expected Python 3.12 as python3, found Python 3.14.0" in refused(small)


def begun(container, seconds_ago):
    """The same script, as if it had been running for so long."""
    late, text = container.home / "startup.sh", STARTUP_SCRIPT.read_text()
    assert text.count("  SECONDS=0\n") == 1
    late.write_text(text.replace("  SECONDS=0\n", f"  SECONDS={seconds_ago}\n"))
    return replace(container, script=late)


def stub(container, name, text):
    """A program that stands before the system's; returns what it writes to."""
    said = container.home / f"{name}.said"
    program = Path(container.environment("worker")["PATH"].split(":")[0]) / name
    program.write_text(f"#!/bin/sh\nsaid='{said}'\n{text}\n")
    program.chmod(0o755)
    return said


def test_every_long_step_gets_what_is_left_since_the_start(small):
    """Else what each may take adds up to more than MWAA's five minutes."""
    said = stub(small, "timeout", 'echo "$*" >> "$said"; exec /usr/bin/timeout "$@"')
    refused(begun(small, 100))
    steps = [line.removeprefix("--foreground ").split(" ", 1) for line in said.read_text().splitlines()]
    for (limit, word), (left, step) in zip(STEPS, steps, strict=True):
        assert word in step
        assert 0 < int(left) <= limit - 100


def test_a_script_that_has_no_time_left_says_so(small):
    assert "startup: python3 had not made an environment" in refused(begun(small, 240))


@pytest.mark.parametrize(
    ("late", "message"),
    [("-m pip", "pip had not installed"), ("-c import", "dbt and Soda were installed but not imported within 280 s")],
)
def test_a_step_that_takes_too_long_is_told(small, late, message):
    """Here `timeout` says at once that the step was too long."""
    stub(small, "timeout", f'case "$*" in *"{late}"*) exit 124;; esac; exec /usr/bin/timeout "$@"')
    said = refused(small)
    assert f"startup: {message}" in said
    assert "choose a larger environment class" in said


def test_plugins_of_no_package_are_told(container):
    """The script waits for plugins.zip to be unpacked; here `sleep` does not sleep."""
    environment = container.environment("worker")
    sleep = Path(environment["PATH"].split(":")[0]) / "sleep"
    sleep.write_text("#!/bin/sh\nexit 0\n")
    sleep.chmod(0o755)
    said = refused(container)
    assert "upload plugins.zip and startup.sh of the same package" in said


def test_it_is_valid_for_bash():
    subprocess.run(["bash", "-n", str(STARTUP_SCRIPT)], check=True)


def test_no_option_of_the_shell_leaks_into_mwaas(container):
    assert shutil.which("bash")
    before = subprocess.run(["bash", "-c", "set +o; shopt"], capture_output=True, text=True, env={}, check=True).stdout
    after = subprocess.run(
        ["bash", "-c", 'source "$1" >&2; set +o; shopt', "startup", str(STARTUP_SCRIPT)],
        capture_output=True,
        text=True,
        env=container.environment("scheduler"),
        check=True,
    ).stdout
    assert after == before
