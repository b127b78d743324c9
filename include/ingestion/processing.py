"""Run the OCSF engine on a batch's objects, in the warehouse environment: one process a batch, which ends with the task.

The two meet in files only: a request, the objects, and ``result.json`` beside what the engine wrote. Nothing of a result is believed that
doesn't add up: read = written + set aside, in total and of each object.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import threading
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path  # noqa: TC003 - pydantic needs it
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.ingestion import exceptions
from include.platform.paths import PROJECT_ROOT
from include.platform.settings import load_settings
from include.warehouse.child_process import ChildProcess
from include.warehouse.profile import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

ENGINE: Final = "include.ingestion.ocsf.run"
"""The engine's module."""
REQUEST_FILE: Final = "request.json"
RESULT_FILE: Final = "result.json"
ENGINE_SECONDS: Final = 3600.0
"""An engine that takes longer is stopped."""
DISK_FULL_CODE: Final = 28
"""The engine's exit code when the disk is full (ENOSPC); its words are understood, too."""

_DISK_FULL = re.compile(r"no space left on device|\bENOSPC\b|disk quota exceeded|errno 28\b", re.IGNORECASE)
_LAST_WORDS = 20
_LINE_CHARACTERS = 2000


class EngineError(RuntimeError):
    """The engine gave no result. Nothing was published; a retry processes the batch again, under the same names."""


class EngineMissing(EngineError):
    """The warehouse environment, or a package in it, isn't there."""


class EngineFailed(EngineError):
    """The engine ended with an error; the message has its last words."""


class EngineTooSlow(EngineError):
    """The engine took too long and was stopped."""


class EngineInterrupted(EngineError):
    """The engine was stopped by a signal."""


class DiskFull(EngineError, exceptions.DiskFull):
    """There is no room for what the engine writes."""


class ResultInvalid(EngineError):
    """The engine's result is missing, malformed, or doesn't add up."""


@dataclass(frozen=True)
class InputObject:
    """An object version that was fetched.

    Attributes:
        path: where it is.
        bucket: where it is from.
        key: likewise.
        version_id: likewise.
        etag: of the version.
        size: bytes.
    """

    path: Path
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size: int


@dataclass(frozen=True)
class ProcessRequest:
    """What the engine is to do.

    Attributes:
        source: whose objects.
        batch: the batch's id.
        objects: what to read.
        out: folder for what is written; it is made if it isn't there.
        threads: of the engine.
        mapping_digest: of the mapping that is wanted; None takes what there is.
    """

    source: str
    batch: str
    objects: Sequence[InputObject]
    out: Path
    threads: int = 1
    mapping_digest: str | None = None

    def to_json(self) -> str:
        """As the engine reads it."""
        content = asdict(self) | {"objects": [asdict(item) for item in self.objects]}
        return json.dumps(content, default=str)


type Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Output(_Part):
    """A Parquet file that was written.

    Attributes:
        path: where it is, in the request's folder.
        class_name: the OCSF class of its events, such as ``network_activity``.
        region: of its events.
        account_id: of its events.
        event_day: of its events, YYYYMMDD in UTC.
        part: from 0 or 1, for the names in the lake.
        rows: events.
        bytes: of the file.
        time_min: of the first event, ms since 1970.
        time_max: of the last event, likewise.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    path: Path
    class_name: Annotated[str, Field(alias="class", min_length=1)]
    region: str
    account_id: Annotated[str, Field(min_length=1)]
    event_day: Annotated[str, Field(pattern=r"^\d{8}$")]
    part: Count
    rows: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0)]
    time_min: int
    time_max: int


class DeadLetters(_Part):
    """A file of records that were set aside.

    Attributes:
        path: where it is, in the request's folder.
        records: in it; one that is in pieces counts once.
    """

    path: Path
    records: Count


class ObjectCounts(_Part):
    """What became of an object's records.

    Attributes:
        key: of the object.
        version_id: likewise.
        read: records.
        written: of them.
        set_aside: of them.
    """

    key: str
    version_id: str | None = None
    read: Count
    written: Count
    set_aside: Count


class ProcessResult(_Part):
    """What the engine did.

    Attributes:
        read: records.
        written: of them, as events.
        set_aside: of them, as dead letters.
        reasons: how many were set aside, by reason.
        classes: how many were written, by OCSF class.
        bytes_read: of the objects, as they are stored.
        seconds: how long it took.
        mapping_digest: of the mapping that was used.
        outputs: what was written.
        dead_letters: what was set aside.
        objects: the counts of each.
    """

    read: Count
    written: Count
    set_aside: Count
    reasons: dict[str, Count]
    classes: dict[str, Count]
    bytes_read: Count
    seconds: Annotated[float, Field(ge=0)]
    mapping_digest: str | None = None
    outputs: tuple[Output, ...]
    dead_letters: tuple[DeadLetters, ...]
    objects: tuple[ObjectCounts, ...]

    @property
    def dead_letter_share(self) -> float:
        """Of the records that were read, from 0 to 1."""
        return self.set_aside / self.read if self.read else 0.0


@dataclass
class OcsfProcessor:
    """Runs the engine.

    Attributes:
        timeout_seconds: for one batch.
        python: of the warehouse environment; the settings' if None.
        command: what runs with it; the engine's module.
    """

    timeout_seconds: float = ENGINE_SECONDS
    python: Path | None = None
    command: Sequence[str] = ("-m", ENGINE)
    _process: ChildProcess = field(default_factory=ChildProcess, repr=False)
    _killed: threading.Event = field(default_factory=threading.Event, repr=False)

    def run(self, request: ProcessRequest) -> ProcessResult:
        """Process a batch; what it says goes to the log, line by line.

        Raises:
            EngineMissing: no warehouse environment, or a package of it.
            EngineTooSlow: it took longer than ``timeout_seconds``.
            EngineInterrupted: it was stopped.
            DiskFull: there is no room for the output.
            EngineFailed: it ended with an error.
            ResultInvalid: its result doesn't add up.
        """
        request.out.mkdir(parents=True, exist_ok=True)
        (request.out / RESULT_FILE).unlink(missing_ok=True)  # of an earlier try
        try:
            (request.out / REQUEST_FILE).write_text(request.to_json())
        except OSError as error:
            if _DISK_FULL.search(str(error)):
                raise _no_room(request, str(error)) from error
            raise
        words: deque[str] = deque(maxlen=_LAST_WORDS)
        code, expired = self._run(request, words)
        if code:
            raise self._failure(request, code, list(words), expired=expired)
        return read_result(request)

    def terminate(self) -> None:
        """Stop the engine and all that it started; for the task's ``on_kill``. Safe at any time, from any thread."""
        self._killed.set()
        self._process.terminate()

    def _run(self, request: ProcessRequest, words: deque[str]) -> tuple[int, bool]:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.terminate()

        timer = threading.Timer(self.timeout_seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            self._start(request)
            for line in self._process.lines():
                if told := line.rstrip()[:_LINE_CHARACTERS]:
                    words.append(told)
                    log.info("%s", told)
            return self._process.wait(), expired.is_set()
        except BaseException:  # a time-out of the task, for one
            self._process.terminate()
            raise
        finally:
            timer.cancel()

    def _start(self, request: ProcessRequest) -> None:
        python = self.python or load_settings().warehouse_venv / "bin" / "python"
        arguments = [str(python), *self.command, str(request.out / REQUEST_FILE)]
        log.debug("running %s", arguments)
        try:
            self._process.start(arguments, environment=engine_environment(), directory=PROJECT_ROOT)
        except OSError as error:
            raise EngineMissing(
                f"expected Python of the warehouse environment at {python}, found: {error}; build the warehouse environment from "
                "locks/warehouse.txt (make setup; on MWAA the startup script does) and name it in data_platform.warehouse_venv"
            ) from error

    def _failure(self, request: ProcessRequest, code: int, words: list[str], *, expired: bool) -> EngineError:
        last = words[-1] if words else "nothing"
        what = f"batch {request.batch} of {request.source}"
        if expired:
            return EngineTooSlow(
                f"expected {what} to be processed within {self.timeout_seconds:.0f} s, stopped the engine after that; its last words: "
                f"{last}. Nothing was published. Lower batches.max_mib of the source, or raise the time limit"
            )
        if code == DISK_FULL_CODE or any(_DISK_FULL.search(word) for word in words):
            return _no_room(request, next((word for word in reversed(words) if _DISK_FULL.search(word)), last))
        if code < 0 or self._killed.is_set():
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            remedy = (
                "if nobody stopped it, the worker had no memory left: lower batches.max_mib of the source, or give the worker more"
                if code == -signal.SIGKILL
                else "a retry processes the batch again"
            )
            return EngineInterrupted(
                f"expected {what} to be processed, found the engine stopped ({name}). Nothing was published; {remedy}"
            )
        if re.search(r"\b(ModuleNotFoundError|ImportError|ReaderMissing)\b", "\n".join(words)):
            return EngineMissing(
                f"expected the engine's packages in the warehouse environment, found: {last}; build that environment anew from "
                "locks/warehouse.txt (make setup; on MWAA the startup script does)"
            )
        told = "\n".join(words) or "nothing"
        return EngineFailed(
            f"expected {what} to be processed, found exit code {code}: {last}. Nothing was published; mend what it says, then clear this "
            f"task. Its last words:\n{told}"
        )


def engine_environment() -> dict[str, str]:
    """What the engine gets of the task's environment: nothing of AWS, for it reads and writes files only."""
    kept = {name: value for name, value in inherited_environment().items() if not name.startswith("AWS_")}
    return kept | {"PYTHONPATH": str(PROJECT_ROOT), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def read_result(request: ProcessRequest) -> ProcessResult:
    """The result of a request that was processed.

    Raises:
        ResultInvalid: it is missing, malformed, or doesn't add up.
    """
    file = request.out / RESULT_FILE
    try:
        result = ProcessResult.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ResultInvalid(f"expected the engine to write {RESULT_FILE}, found: {error}; {_REMEDY}") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)[:5])
        raise ResultInvalid(f"expected {RESULT_FILE} as the engine writes it, found: {told}; {_REMEDY}") from error
    if problems := _problems(request, result):
        raise ResultInvalid(f"expected a result that adds up, found: {'; '.join(problems[:5])}; {_REMEDY}")
    return result


_REMEDY = (
    "nothing was published. Clear this task to process the batch again; if it stays so, the engine and this code are not of "
    "one version"
)


def _problems(request: ProcessRequest, result: ProcessResult) -> list[str]:
    """What doesn't add up."""
    accounted = result.written + result.set_aside
    sums: list[tuple[str, int, str, int]] = [
        ("read", result.read, "written + set_aside", accounted),
        ("set_aside", result.set_aside, "the sum of reasons", sum(result.reasons.values())),
        ("set_aside", result.set_aside, "the records of dead_letters", sum(f.records for f in result.dead_letters)),
        ("written", result.written, "the sum of classes", sum(result.classes.values())),
        ("written", result.written, "the rows of outputs", sum(output.rows for output in result.outputs)),
        ("read", result.read, "that of objects", sum(item.read for item in result.objects)),
        ("written", result.written, "that of objects", sum(item.written for item in result.objects)),
    ]
    sums += [
        (f"read of {item.key}", item.read, "written + set_aside", item.written + item.set_aside)
        for item in result.objects
    ]
    problems = [f"{name} is {count}, {other} is {total}" for name, count, other, total in sums if count != total]
    asked = sorted((item.key, item.version_id or "") for item in request.objects)
    told = sorted((item.key, item.version_id or "") for item in result.objects)
    if asked != told:
        problems.append(f"{len(asked)} objects were asked for, the counts are of {len(told)}, or of others")
    if request.mapping_digest and result.mapping_digest != request.mapping_digest:
        problems.append(f"mapping_digest is {result.mapping_digest}, not {request.mapping_digest}")
    return problems + _file_problems(request, result)


def _file_problems(request: ProcessRequest, result: ProcessResult) -> list[str]:
    problems = []
    out = request.out.resolve()
    sizes: list[tuple[Path, Any]] = [(output.path, output.bytes) for output in result.outputs]
    sizes += [(file.path, None) for file in result.dead_letters]
    for path, size in sizes:
        file = path if path.is_absolute() else request.out / path
        if not file.resolve().is_relative_to(out):
            problems.append(f"{path} is not in {request.out}")
        elif not file.is_file():
            problems.append(f"{path} is not there")
        elif size is not None and file.stat().st_size != size:
            problems.append(f"{path} has {file.stat().st_size} bytes, not {size}")
    if len({path for path, _ in sizes}) < len(sizes):
        problems.append("a path is told twice")
    return problems


def _no_room(request: ProcessRequest, told: str) -> DiskFull:
    return DiskFull(
        f"expected room for batch {request.batch} of {request.source} in {request.out}, found the disk full ({told}). Nothing was "
        "published; free some space in data_platform.scratch_dir, or lower batches.max_mib or pool_slots of the source, then clear "
        "this task"
    )
