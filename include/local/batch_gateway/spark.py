"""Real drivers: one ``spark-submit`` in local mode for each application, by PyPI's pyspark.

A driver outlives the operator that has started it, as a pod does: it keeps its process id and its exit status in its folder, where the
operator, or the one after it, reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import psutil

from include.local.batch_gateway.java import check_java, java_home
from include.local.batch_gateway.operator import Sight, SubmissionFailed
from include.local.processes import MARKER, free_port, is_alive, marked_processes
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from include.local.batch_gateway.store import Application, Store

DRIVER_MARKER: Final = "DATA_PLATFORM_SPARK_DRIVER"
"""Variable of a driver and all its descendants: the submission id."""
RUN_FILE, STARTED_FILE, EXIT_FILE = "run.json", "started.json", "exit"

_IN_IMAGE: Final = ("/usr/lib/spark", "/opt/spark")
"""Where images have Spark; ``local://`` files below it are those of the Spark environment."""
_GRACE_SECONDS: Final = 3
_MOST_MEMORY_MB: Final = 768
_MOST_CORES: Final = 2
_LEAN_JVM: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_KILLED: Final = 137


class SparkDrivers:
    """Starts, watches and ends drivers.

    Args:
        store: where their folders are.
        venv: the Spark environment.
        aws: URL of the AWS stand-in, from which ``s3://`` and ``s3a://`` files come.
        concurrency: drivers at once; the others' pods are pending, as in a cluster without room.
    """

    poll_seconds = 0.1

    def __init__(self, store: Store, venv: Path, aws: str | None, concurrency: int) -> None:
        self._store = store
        self._venv = venv
        self._aws = aws
        self._concurrency = concurrency
        self._starting: dict[Path, subprocess.Popen[bytes]] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._has_java = False
        self._ending: dict[Path, float] = {}
        """When those that were told to end are killed."""

    def wait_before_submission(self, application: Application) -> int:
        """It is seen at once."""
        return 0

    def script(self, application: Application) -> list[tuple[str, int]]:
        """There is none."""
        return []

    def submit(self, application: Application) -> None:
        """See that a driver can run, once it has its turn.

        Raises:
            SubmissionFailed: there is no Spark to run it, or no Java.
        """
        self._spark_home()
        if not self._has_java:
            check_java(self._venv)
            self._has_java = True
        (self._run(application, application.executions + 1) / "tmp").mkdir(parents=True, exist_ok=True)

    def look(self, application: Application) -> Sight:
        """Start it if there is room, or see whether it still runs."""
        self._children = [child for child in self._children if child.poll() is None]
        run = self._run(application, application.executions)
        if not (run / STARTED_FILE).exists():
            return self._start(application, run)
        if child := self._starting.pop(run, None):
            self._children.append(child)
        started = _read(run / STARTED_FILE)
        if application.state == "SUBMITTED":
            return Sight("Running", facts={"ui_port": started["ui_port"]})
        alive = is_alive(started["pid"], started["created"])
        code = _exit_code(run)  # read after it was seen alive or dead: what has ended has written it
        if code is None and alive:
            return Sight("Running", look_after=200)
        code = _KILLED if code is None else code
        if code == 0:
            return Sight("Succeeded")
        return Sight("Failed", f"driver container failed with ExitCode: {code}, Reason: Error")

    def end(self, application: Application) -> bool:
        """Signal its processes; when none is left, forget its log, which goes with the pod."""
        run = self._run(application, application.executions)
        if run.exists() and (left := marked_processes(application.id, DRIVER_MARKER)):
            until = self._ending.setdefault(run, time.monotonic() + _GRACE_SECONDS)
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
            return False
        self._ending.pop(run, None)
        shutil.rmtree(run / "tmp", ignore_errors=True)
        if child := self._starting.pop(run, None):
            self._children.append(child)
        self._store.log_path(application.id).unlink(missing_ok=True)
        return True

    def _spark_home(self) -> Path:
        home = spark_home(self._venv)
        if home is None:
            raise SubmissionFailed(f"expected pyspark in {self._venv}, found none; build it with `make setup`")
        return home

    def _run(self, application: Application, execution: int) -> Path:
        return self._store.folder(application.id) / f"run-{execution}"

    def _start(self, application: Application, run: Path) -> Sight:
        if run not in self._starting:
            if self._store.running() + len(self._starting) >= self._concurrency:
                return Sight("Pending", look_after=200)
            plan = DriverPlan(application, run, self._spark_home(), self._venv, self._aws)
            new = run / f"{RUN_FILE}.new"  # a driver of an operator that was killed may be reading the other
            new.write_text(json.dumps(plan.to_json()), encoding="utf-8")
            new.replace(run / RUN_FILE)
            with self._store.log_path(application.id).open("ab") as log:
                self._starting[run] = subprocess.Popen(
                    [sys.executable, "-m", "include.local.batch_gateway.driver", str(run)],
                    cwd=PROJECT_ROOT,
                    env={**os.environ, DRIVER_MARKER: application.id},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        elif self._starting[run].poll() is not None and not (run / STARTED_FILE).exists():
            del self._starting[run]
            return Sight("Failed", "the driver's process ended before it had begun; its log says why")
        return Sight("Pending", look_after=50)


class DriverPlan:
    """What a driver runs, of an application's specification and of the operator that starts it.

    A job may have waited for its turn over a restart of the platform, which has other addresses and another marker then.

    Args:
        application: whose.
        run: the driver's folder.
        home: Spark.
        venv: the environment it is in, whose Python the application gets.
        aws: URL of the AWS stand-in.
    """

    def __init__(self, application: Application, run: Path, home: Path, venv: Path, aws: str | None) -> None:
        self._application = application
        self._spec = application.document
        self._run = run
        self._home = home
        self._venv = venv
        self._aws = aws
        self._fetch: list[tuple[str, str]] = []
        self._ui_port = None if application.spark_conf.get("spark.ui.enabled") == "false" else free_port(0)

    def to_json(self) -> dict[str, Any]:
        """What the driver's process reads."""
        command = self._command()
        return {
            "command": command,
            "environ": self._environ(),
            "fetch": self._fetch,
            "aws": self._aws,
            "ui_port": self._ui_port,
        }

    def _command(self) -> list[str]:
        driver, executor, deps = self._spec["driver"], self._spec["executor"], self._spec.get("deps") or {}
        cores = min(_MOST_CORES, max(1, executor["cores"] * executor["instances"]))
        command = [str(self._home / "bin" / "spark-submit"), "--master", f"local[{cores}]", "--deploy-mode", "client"]
        command += ["--driver-memory", f"{min(_MOST_MEMORY_MB, max(512, _megabytes(driver['memory'])))}m"]
        for name, value in self._conf(driver).items():
            command += ["--conf", f"{name}={value}"]
        for option, name in (
            ("--jars", "jars"),
            ("--py-files", "pyFiles"),
            ("--files", "files"),
            ("--archives", "archives"),
        ):
            if deps.get(name):
                command += [option, ",".join(self._paths(deps[name]))]
        for option, name in (("--packages", "packages"), ("--repositories", "repositories")):
            if deps.get(name):
                command += [option, ",".join(deps[name])]
        if self._spec.get("mainClass"):
            command += ["--class", self._spec["mainClass"]]
        [main] = self._paths([self._spec["mainApplicationFile"]])
        return [*command, main, *(self._spec.get("arguments") or [])]

    def _conf(self, driver: dict[str, Any]) -> dict[str, str]:
        given = self._application.spark_conf
        options = (
            _LEAN_JVM,
            f"-Djava.io.tmpdir={self._run / 'tmp'}",
            driver.get("javaOptions"),
            given.get("spark.driver.extraJavaOptions"),
        )
        conf = {"spark.sql.shuffle.partitions": "4", "spark.ui.showConsoleProgress": "false"} | given
        conf |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": " ".join(filter(None, options)),
        }
        return conf | ({"spark.ui.port": str(self._ui_port)} if self._ui_port else {})

    def _paths(self, urls: Iterable[str]) -> list[str]:
        """Where the driver finds files; those of S3 are fetched there first."""
        paths = []
        for url in urls:
            scheme, _, rest = url.rpartition("://")
            if scheme in ("s3", "s3a", "s3n"):
                source, hash_sign, alias = url.partition("#")  # the name that Spark unpacks it under
                path = self._run / "files" / str(len(self._fetch)) / source.rpartition("/")[2]
                self._fetch.append((source, str(path)))
                paths.append(f"{path}{hash_sign}{alias}")
            elif scheme in ("", "file", "local"):
                paths.append(self._in_image(rest))
            else:
                paths.append(url)
        return paths

    def _in_image(self, path: str) -> str:
        for root in _IN_IMAGE:
            if path.startswith(root + "/"):
                return str(self._home) + path.removeprefix(root)
        return path

    def _environ(self) -> dict[str, str]:
        """Nothing of the platform's own, as in a container."""
        python = str(self._venv / "bin" / "python")
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._run),
            "TMPDIR": str(self._run / "tmp"),
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self._run / "tmp"),
            "SPARK_USER": self._spec["proxyUser"],
            "PYSPARK_PYTHON": python,
            "PYSPARK_DRIVER_PYTHON": python,
            "PYTHONUNBUFFERED": "1",
            DRIVER_MARKER: self._application.id,
        }
        environ |= {name: os.environ[name] for name in (MARKER, "SPT_NOENV", "NO_PROXY") if name in os.environ}
        if java := java_home(self._venv):
            environ["JAVA_HOME"] = str(java)
        if self._aws:
            environ |= {"AWS_ENDPOINT_URL": self._aws, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
            environ["AWS_DEFAULT_REGION"] = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
        given = self._spec["driver"].get("env") or []
        return environ | {one["name"]: str(one["value"]) for one in given if one.get("value") is not None}


def spark_home(venv: Path) -> Path | None:
    """Spark's own folder in an environment."""
    return next(iter(venv.glob("lib/python3*/site-packages/pyspark")), None)


def _megabytes(memory: str) -> int:
    parts = re.match(r"(\d+)([kmgt]?)", memory.lower())
    if not parts:
        return 0
    return int(int(parts[1]) * {"k": 1 / 1024, "m": 1, "": 1 / 2**20, "g": 1024, "t": 2**20}[parts[2]])


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _exit_code(run: Path) -> int | None:
    path = run / EXIT_FILE
    return int(path.read_text(encoding="ascii")) if path.exists() else None
