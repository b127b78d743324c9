"""The names of a job: the one we give it, the label the gateway makes of that, and the id the gateway answers with."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from data_platform.batch_gateway.exceptions import SubmissionIdInvalid

MAX_LABEL: Final = 63
"""Characters of a Kubernetes label's value, and of a pod's name that is to be its host name."""
_DIGEST: Final = 16
_READABLE: Final = MAX_LABEL - 1 - _DIGEST
_SUBMISSION_ID: Final = re.compile(r"(?P<cluster>\S+?)-(?P<uuid>[0-9a-f]{32})(?:-(?P<suffix>\S+))?")


def application_name(
    *, dag_id: str, task_id: str, run_id: str, map_index: int, attempt: int | str, environment: str = ""
) -> str:
    """The application name of one attempt: what it is looked up by, so no two attempts may share it.

    The gateway keeps the name as a label that it normalises; this one it leaves alone. What makes it unique is a hash of all parts; what
    stands before the hash is for people, and cut to fit.

    Args:
        dag_id: the task instance's.
        task_id: the task instance's.
        run_id: the task instance's.
        map_index: the task instance's; -1 if it is not mapped.
        attempt: one intended submission of the task instance; 1 and "1" are the same.
        environment: the Airflow deployment, for gateways that several share: DAG, run and attempt may be alike there.

    Returns:
        At most 63 of ``A-Za-z0-9._-``, beginning and ending with a letter or digit; the same in every process.
    """
    parts = json.dumps([environment, dag_id, run_id, task_id, map_index, str(attempt)])  # JSON keeps the parts apart
    digest = hashlib.sha256(parts.encode()).hexdigest()[:_DIGEST]
    index = f".{map_index}" if map_index >= 0 else ""
    dag, task = _readable(dag_id, "dag"), _readable(task_id, "task")
    room = max(_READABLE - len(index) - 1, 2)
    dag_room = max(room - len(task), room // 2)
    dag = dag[:dag_room]
    return f"{dag}.{task[: room - len(dag)]}{index}"[:_READABLE] + f"-{digest}"


def _readable(text: str, otherwise: str) -> str:
    """The text in a label's characters, from its first letter or digit on."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text).lstrip("._-") or otherwise


def normalise_label(text: str) -> str:
    """What the gateway makes of a text before it becomes a label's value, an application name above all.

    Every character that Kubernetes would refuse becomes 0, one for each of Java's 16-bit units, and what is over 63 is cut off. So
    different texts may become the same.
    """
    units = text.encode("utf-16-be", "surrogatepass")
    characters = [chr(int.from_bytes(units[at : at + 2])) for at in range(0, min(len(units), 2 * MAX_LABEL), 2)]
    kept = [character if re.fullmatch(r"[A-Za-z0-9._-]", character) else "0" for character in characters]
    for edge in (0, -1):
        if kept and kept[edge] in "._-":
            kept[edge] = "0"
    return "".join(kept)


@dataclass(frozen=True)
class SubmissionId:
    """The id that the gateway gives a submission: ``<cluster>-<32 hex digits>[-<suffix>]``.

    Attributes:
        text: all of it, as the gateway wrote it.
        cluster: the id of the cluster that runs the job.
        uuid: the 32 hex digits.
        suffix: what the request asked to append; empty if nothing.
    """

    text: str
    cluster: str
    uuid: str
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> SubmissionId:
        """Take an id apart.

        Raises:
            SubmissionIdInvalid: it has no cluster or no 32 hex digits.
        """
        found = _SUBMISSION_ID.fullmatch(text)
        if not found:
            raise SubmissionIdInvalid(
                "submission id: expected <cluster>-<32 hex digits>[-<suffix>], such as "
                f"sparkclustera-f72a7ddcfde14f4390194d4027c1e1d6; found {text[:200]!r}"
            )
        return cls(text, found["cluster"], found["uuid"], found["suffix"] or "")

    @classmethod
    def of(cls, text: str) -> SubmissionId | None:
        """As `parse`, but None for what is no such id: a cluster may hold applications that the gateway did not make."""
        try:
            return cls.parse(text)
        except SubmissionIdInvalid:
            return None

    @property
    def dashed(self) -> bool:
        """Whether the cluster's id has a dash: the gateway then can't find the job by this id, neither to tell of it nor to cancel it."""
        return "-" in self.cluster

    @property
    def reported_cluster(self) -> str:
        """The cluster's id as the gateway reads it back: up to the first dash."""
        return self.text.partition("-")[0]

    def __str__(self) -> str:
        return self.text
