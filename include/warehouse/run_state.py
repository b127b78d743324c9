"""dbt's run state in S3, so that a retry resumes from the failure on whichever worker it lands.

One JSON object a task and run id, ``dbt-state/<dag>/<run>/<task>/state.json``, rewritten (a PUT is atomic) every few seconds while nodes
finish. A worker, or dbt, that is killed loses at most the last interval: those nodes run again, which is harmless. The state is good only
for the same project, selection and options, and only until a try has succeeded: clearing a succeeded task builds everything. Nor is it good
once another run has begun to build, for all runs build the same relations: ``dbt-state/<dag>/<task>/last-builder`` names that run
and its build.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import threading
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from include.warehouse.dbt_run import NodeResult
from include.warehouse.exceptions import RunStateUnreadable
from include.warehouse.object_store import head, is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from include.warehouse.object_store import ObjectStore

log = logging.getLogger(__name__)

PREFIX = "dbt-state"
SAVE_SECONDS = 2.0
_VERSION = 1
_PROJECT_SUFFIXES = frozenset({".sql", ".yml", ".yaml", ".csv", ".py", ".md"})


@dataclass
class RunState:
    """What the tries of one task instance have done so far.

    Attributes:
        project: fingerprint of the dbt project that ran.
        selection: the dbt selection, empty for everything.
        full_refresh: whether incremental models are built anew.
        complete: a try succeeded; nothing is left to resume.
        nodes: how each node ended, by unique id.
    """

    project: str
    selection: str
    full_refresh: bool
    complete: bool = False
    nodes: dict[str, NodeResult] = field(default_factory=dict)

    @property
    def done(self) -> dict[str, NodeResult]:
        """Nodes that need not run again."""
        return {unique_id: node for unique_id, node in self.nodes.items() if node.succeeded}

    def reason_not_to_resume(self, wanted: RunState) -> str | None:
        """Why the ``wanted`` run can't go on from this state; None if it can."""
        if self.complete:
            return "an earlier try succeeded, and the task was cleared: building everything"
        if self.project != wanted.project:
            return "the dbt project has changed since the earlier try: building everything"
        if (self.selection, self.full_refresh) != (wanted.selection, wanted.full_refresh):
            return "the run's params have changed since the earlier try: building everything"
        if complaints := [
            node.name for node in self.nodes.values() if node.resource_type == "test" and node.status == "fail"
        ]:
            # the tested models succeeded: to go on from here would test the same rows again
            return f"data tests failed in the earlier try ({', '.join(complaints[:5])}): building everything from the source as it is now"
        if not self.done:
            return "no node succeeded in an earlier try: building everything"
        return None

    def to_json(self) -> bytes:
        """The state as stored."""
        document = {**asdict(self), "version": _VERSION, "nodes": [asdict(node) for node in self.nodes.values()]}
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> RunState:
        """Read `to_json`'s form.

        Raises:
            RunStateUnreadable: not that form.
        """
        try:
            document = json.loads(body)
            if document.pop("version") != _VERSION:
                raise ValueError("another version")
            nodes = [
                NodeResult(**node | {"relation": tuple(node["relation"]) if node["relation"] else None})
                for node in document.pop("nodes")
            ]
            return cls(**document, nodes={node.unique_id: node for node in nodes})
        except (ValueError, TypeError, KeyError) as error:
            raise RunStateUnreadable(
                f"expected run state of version {_VERSION}, found {body[:80]!r}… ({error})"
            ) from error


@dataclass(frozen=True)
class Build:
    """A build that has begun.

    Attributes:
        run_id: of the run.
        token: another one for each try, so that what was known of an earlier build of the same run is not taken for this one's.
    """

    run_id: str
    token: str = ""


class RunStateStore:
    """The state of one task instance in S3.

    Args:
        client: makes the S3 client; called once, when first needed, because boto3 takes its time to import.
        bucket: from the settings.
        dag_id: with ``run_id`` and ``task_id`` the key.
        run_id: the run that builds.
        task_id: see ``dag_id``.
    """

    def __init__(
        self, client: Callable[[], ObjectStore], bucket: str, *, dag_id: str, run_id: str, task_id: str
    ) -> None:
        self._make_client = client
        self._client: ObjectStore | None = None
        self.bucket = bucket
        self.run_id = run_id
        dag, run, task = (quote(part, safe="") for part in (dag_id, run_id, task_id))
        self.prefix = f"{PREFIX}/{dag}/{run}/{task}"
        self._builder_key = f"{PREFIX}/{dag}/{task}/last-builder"

    @property
    def client(self) -> ObjectStore:
        """The S3 client."""
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def load(self) -> RunState | None:
        """The state that an earlier try left; None if there is none.

        Raises:
            RunStateUnreadable: S3 does not answer, or the object isn't a state.
        """
        body = self._read(f"{self.prefix}/state.json")
        return None if body is None else RunState.from_json(body)

    def last_build(self) -> Build | None:
        """The build that began last; None if none did.

        Raises:
            RunStateUnreadable: S3 does not answer.
        """
        body = self._read(self._builder_key)
        return None if body is None else Build(*body.decode().split("\n", 1))

    def claim(self, token: str | None = None) -> None:
        """Note that this run begins to build.

        Args:
            token: of the try that builds; a new one if None.
        """
        body = f"{self.run_id}\n{token or uuid.uuid4().hex}"
        self.client.put_object(Bucket=self.bucket, Key=self._builder_key, Body=body.encode())

    def _read(self, key: str) -> bytes | None:
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except Exception as error:
            if is_missing(error):
                return None
            raise RunStateUnreadable(f"expected s3://{self.bucket}/{key} to be readable, found: {error}") from error
        return body

    def save(self, state: RunState) -> None:
        """Write the whole state."""
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/state.json", Body=state.to_json())

    def complete(self, state: RunState) -> None:
        """Note that the task has succeeded as a whole. A try that ends before this builds nothing twice."""
        self.save(replace(state, complete=True))

    def save_artifacts(self, target_dir: Path, project: str) -> None:
        """Keep dbt's results of this run, and its manifest once a project version."""
        results = target_dir / "run_results.json"
        if results.exists():
            self._put_compressed(f"{self.prefix}/run_results.json.gz", results)
        manifest, key = target_dir / "manifest.json", f"dbt-manifests/{project}.json.gz"
        if manifest.exists() and not head(self.client, self.bucket, key):
            self._put_compressed(key, manifest)

    def _put_compressed(self, key: str, path: Path) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=gzip.compress(path.read_bytes(), compresslevel=1))


class StateWriter:
    """Claims the relations for this run, then saves the state from a thread of its own, every `SAVE_SECONDS` at most, and at the end.

    A failed save never fails the build: it costs a retry its head start, and is said once in the log. No state is saved before the claim
    is, and the claim is tried again with each save, so that an earlier run finds out in any case but a lasting outage of S3.
    """

    def __init__(self, store: RunStateStore, state: RunState, interval_seconds: float = SAVE_SECONDS) -> None:
        self._store = store
        self._state = state
        self._interval = interval_seconds
        self._lock = threading.Lock()
        self._dirty = True
        self._stopped = threading.Event()
        self._told = False
        self._claimed = False
        self._token = uuid.uuid4().hex
        self._thread = threading.Thread(target=self._run, name="dbt-run-state", daemon=True)

    def __enter__(self) -> StateWriter:
        self._guarded(self._claim)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._save()

    def add(self, node: NodeResult) -> None:
        """Note how a node ended."""
        with self._lock:
            self._state.nodes[node.unique_id] = node
            self._dirty = True

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            self._save()

    def _save(self) -> None:
        with self._lock:
            if not self._dirty:
                return
            snapshot = RunState(**{**self._state.__dict__, "nodes": dict(self._state.nodes)})
            self._dirty = False
        if not (self._guarded(self._claim) and self._guarded(lambda: self._store.save(snapshot))):
            with self._lock:
                self._dirty = True

    def _claim(self) -> None:
        if not self._claimed:
            self._store.claim(self._token)
            self._claimed = True

    def _guarded(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except Exception as error:
            if not self._told:
                log.warning("dbt's run state can't be saved, a retry will build everything: %s", error)
                self._told = True
            return False
        return True


def project_fingerprint(project_dir: Path, variables: Mapping[str, bool] | None = None) -> str:
    """A checksum of all that dbt reads in ``project_dir``, and of the ``variables`` it is given."""
    digest = hashlib.sha256(json.dumps(dict(variables), sort_keys=True).encode() if variables else b"")
    for path in sorted(project_dir.rglob("*")):
        if path.suffix in _PROJECT_SUFFIXES and path.is_file():
            digest.update(str(path.relative_to(project_dir)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]
