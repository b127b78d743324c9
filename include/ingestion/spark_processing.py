"""A batch that is too large for a worker, as a Spark job: what to submit through the gateway, and what came of it.

Three steps, of which only the first and the last are here: `prepare` compiles the source's mapping and puts the job's request into S3;
the submission itself, which may wait for hours, is `BatchGatewaySubmitOperator`'s; `collect` fetches what the job wrote. What it gives is
what the engine on a worker would have given, so publishing goes on in the same way.

All keys have the batch's id, and the job begins by removing what is at its own: a second try repeats the first.
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from include.ingestion.processing import (
    RESULT_FILE,
    EngineFailed,
    EngineMissing,
    EngineTooSlow,
    ProcessRequest,
    ResultInvalid,
    engine_environment,
    read_result,
)
from include.platform.paths import PROJECT_ROOT
from include.platform.settings import load_settings
from include.warehouse.object_store import is_missing

if TYPE_CHECKING:
    from pathlib import Path

    from include.ingestion.processing import ProcessResult
    from include.spark.placement import PlacedJob
    from include.warehouse.object_store import ObjectStore

log = logging.getLogger(__name__)

JOB: Final = "map_ocsf"
"""In ``include/spark/jobs``."""
COMPILER: Final = "include.ingestion.ocsf.spark_run"
PREFIX: Final = "ingestion/spark"
"""In the platform's bucket."""
COMPILE_SECONDS: Final = 300.0
MIB: Final = 1 << 20
MIB_OF_EXECUTOR: Final = 512
"""Stored bytes for each executor; most logs are ten times as large without their compression."""
MOST_EXECUTORS: Final = 64
BLOCK_BYTES: Final = 4 << 20


@dataclass(frozen=True)
class SparkBatch:
    """Where a batch's job finds its request and leaves its files.

    Attributes:
        source: whose data.
        batch: its id.
        bucket: the platform's.
        scheme: how the clusters read S3: ``s3`` on EMR, ``s3a`` elsewhere.
    """

    source: str
    batch: str
    bucket: str
    scheme: str = "s3"

    @property
    def prefix(self) -> str:
        """Of all its keys."""
        return f"{PREFIX}/source={self.source}/{self.batch}"

    @property
    def request_key(self) -> str:
        """Of the job's request."""
        return f"{self.prefix}/request.json"

    @property
    def request_url(self) -> str:
        """Of the job's request."""
        return f"{self.scheme}://{self.bucket}/{self.request_key}"

    @property
    def out_url(self) -> str:
        """Of the folder that the job writes."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}/out"

    def key_of(self, url: str) -> str:
        """The key of a file that the job wrote.

        Raises:
            ResultInvalid: it is elsewhere.
        """
        where = f"{self.bucket}/{self.prefix}/out/"
        _, separator, rest = url.partition("://")
        if not separator or not rest.startswith(where):
            raise ResultInvalid(
                f"batch {self.batch}: expected files below {self.out_url}, found {url}; the job and this code are not of one version"
            )
        return rest.removeprefix(f"{self.bucket}/")


def prepare(
    request: ProcessRequest, place: SparkBatch, client: ObjectStore, *, region: str, python: Path | None = None
) -> None:
    """Compile the source and put the job's request to its place.

    Args:
        request: of the batch. Its objects need not be on this machine: the executors read those versions from S3. ``out`` is a folder here.
        place: where the job's files go.
        client: of S3.
        region: of the lake.
        python: of the warehouse environment; the settings' if None.

    Raises:
        EngineMissing: there is no warehouse environment.
        EngineTooSlow: compiling takes longer than `COMPILE_SECONDS`.
        EngineFailed: the mapping can't be compiled, or is another one than the batch was planned for.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    job_request, asked = request.out / "job-request.json", request.out / "compile.json"
    document = {
        **json.loads(request.to_json()),
        "out": place.out_url,
        "region": region,
        "job_request": str(job_request),
        "objects": [asdict(item) | {"path": None} for item in request.objects],
    }
    asked.write_text(json.dumps(document, default=str), encoding="utf-8")
    _compile(request, asked, python or load_settings().warehouse_venv / "bin" / "python")
    client.put_object(
        Bucket=place.bucket, Key=place.request_key, Body=job_request.read_bytes(), ContentType="application/json"
    )
    log.info("batch %s: the job's request is at %s", request.batch, place.request_url)


def job_spec(place: SparkBatch, placed: PlacedJob, stored_bytes: int) -> dict[str, Any]:
    """The job for `BatchGatewaySubmitOperator`.

    Args:
        place: of the batch.
        placed: the packaged job, see `PlaceJobOperator`.
        stored_bytes: of the batch's objects.
    """
    executors = max(2, min(MOST_EXECUTORS, math.ceil(stored_bytes / (MIB_OF_EXECUTOR * MIB))))
    return {
        "sparkVersion": load_settings().spark_version,
        "mainApplicationFile": placed.main_application_file,
        "deps": {"pyFiles": list(placed.py_files)},
        "arguments": ["--request", place.request_url],
        "driver": {"cores": 2, "memory": "6g"},
        "executor": {"instances": executors, "cores": 2, "memory": "8g", "memoryOverhead": "2g"},
        "sparkConf": {
            "spark.executorEnv.PYTHONHASHSEED": "0",
            "spark.sql.shuffle.partitions": str(4 * executors),
        },
    }


def collect(request: ProcessRequest, place: SparkBatch, client: Any) -> ProcessResult:
    """Fetch what the job wrote to ``request.out``; the same checks as of an engine on this worker.

    Raises:
        ResultInvalid: the result is missing, malformed, or doesn't add up.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    try:
        body = client.get_object(Bucket=place.bucket, Key=f"{place.prefix}/out/{RESULT_FILE}")["Body"].read()
    except Exception as error:
        if is_missing(error):
            raise ResultInvalid(
                f"batch {place.batch}: expected the job to write {place.out_url}/{RESULT_FILE}, found none; its driver's log says why"
            ) from error
        raise
    document = json.loads(body)
    for file in (*document["outputs"], *document["dead_letters"]):
        key = place.key_of(file["path"])
        path = request.out / key.rsplit("/", 1)[1]
        _download(client, place.bucket, key, path)
        file["path"] = path.name
    (request.out / RESULT_FILE).write_text(json.dumps(document), encoding="utf-8")
    result = read_result(request)
    return result.model_copy(
        update={
            "outputs": tuple(each.model_copy(update={"path": request.out / each.path}) for each in result.outputs),
            "dead_letters": tuple(
                each.model_copy(update={"path": request.out / each.path}) for each in result.dead_letters
            ),
        }
    )


def _compile(request: ProcessRequest, asked: Path, python: Path) -> None:
    try:
        ran = subprocess.run(  # noqa: S603 - our own module
            [str(python), "-m", COMPILER, str(asked)],
            cwd=PROJECT_ROOT,
            env=engine_environment(),
            capture_output=True,
            text=True,
            timeout=COMPILE_SECONDS,
            check=False,
        )
    except OSError as error:
        raise EngineMissing(
            f"expected Python of the warehouse environment at {python}, found: {error}; build the warehouse environment from "
            "locks/warehouse.txt (make setup; on MWAA the startup script does) and name it in data_platform.warehouse_venv"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EngineTooSlow(
            f"expected the mapping of {request.source} to compile within {COMPILE_SECONDS:.0f} s, stopped it after that; a retry may help"
        ) from error
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["nothing"])[-1]
        raise EngineFailed(
            f"expected the mapping of {request.source} to compile for batch {request.batch}, found: {last}. Nothing was submitted; mend "
            "what it says, then clear this task"
        )


def _download(client: Any, bucket: str, key: str, path: Path) -> None:
    body = client.get_object(Bucket=bucket, Key=key)["Body"]
    with path.open("wb") as file:
        while block := body.read(BLOCK_BYTES):
            file.write(block)
