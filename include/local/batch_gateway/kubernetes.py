"""The rules of Kubernetes that a submission can break."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from include.local.batch_gateway.errors import KUBERNETES, java

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_LABEL: Final = 63
MAX_NAME: Final = 253

_LABEL: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")

_NODES: Final = "affinity.nodeAffinity"
_TERMS: Final = f"{_NODES}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
_OF_A_POD: Final = (
    "env.name",
    "env.valueFrom.fieldRef.fieldPath",
    "volumeMounts.name",
    "volumeMounts.mountPath",
    _TERMS,
    f"{_TERMS}.matchExpressions.key",
    f"{_TERMS}.matchExpressions.operator",
    f"{_NODES}.preferredDuringSchedulingIgnoredDuringExecution.preference",
)
_REQUIRED: Final = (
    "volumes.name",
    "volumes.hostPath.path",
    *(f"{pod}.{name}" for pod in ("driver", "executor") for name in _OF_A_POD),
)
"""What the resource's definition wants where the object around it is there; lists are gone through."""


def normalize_label(value: str) -> str:
    """What the gateway makes of an application's name: at most 63 characters, 0 in place of what a label may not hold."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "0", value[:MAX_LABEL])
    if kept and not kept[0].isalnum():
        kept = "0" + kept[1:]
    if kept and not kept[-1].isalnum():
        kept = kept[:-1] + "0"
    return kept


def is_label(value: str) -> bool:
    """Whether Kubernetes takes a label's value."""
    return len(value) <= MAX_LABEL and _LABEL.fullmatch(value) is not None


def _missing(value: Any, path: Sequence[str], told: str) -> Iterator[str]:
    """Where a field is required and is not."""
    if isinstance(value, list):
        for at, one in enumerate(value):
            yield from _missing(one, path, f"{told}[{at}]")
    elif len(path) > 1:
        if path[0] in value:
            yield from _missing(value[path[0]], path[1:], f"{told}.{path[0]}")
    elif path[0] not in value:
        yield f"{told}.{path[0]}: Required value"


def check_resource(name: str, labels: dict[str, str], spec: dict[str, Any]) -> None:
    """What the Kubernetes API checks when the application's resource is made.

    Raises:
        GatewayError: it refuses the name, a label or an incomplete specification; the real gateway answers 500 then.
    """
    problems = [
        f'metadata.labels: Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric characters'
        for value in labels.values()
        if not is_label(value)
    ]
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        problems.append(f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must be used')
    for required in _REQUIRED:
        problems += _missing(spec, required.split("."), "spec")
    if problems:
        raise java(
            KUBERNETES,
            f'Failure executing: POST. Message: SparkApplication.sparkoperator.k8s.io "{name}" is invalid: '
            f"{', '.join(problems)}.",
        )
