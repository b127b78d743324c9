"""A submission's fields, as the real gateway reads them: what it does not know is refused at the top and mostly ignored below."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from include.local.batch_gateway.errors import GatewayError
from include.local.batch_gateway.jackson import (
    JACKSON,
    MISMATCH,
    Reader,
    Unreadable,
    boolean,
    integer,
    kind,
    long,
    many,
    number,
    of,
    properties,
    strictly_of,
    text,
)

_PARSE: Final = f"{JACKSON}.core.JsonParseException"
_OPERATOR: Final = "com.apple.spark.operator"
_FILE_PATH: Final = re.compile(r"[a-zA-Z~]?(/[a-zA-Z0-9_.-]+)+/?")

_NODE_TERM: Final = of(
    {"matchExpressions": many(of({"key": text, "operator": text, "values": many(text)}))},
)
_AFFINITY: Final = of(
    {
        "nodeAffinity": of(
            {
                "preferredDuringSchedulingIgnoredDuringExecution": many(
                    of({"weight": integer, "preference": _NODE_TERM})
                ),
                "requiredDuringSchedulingIgnoredDuringExecution": of({"nodeSelectorTerms": many(_NODE_TERM)}),
            }
        )
    }
)
_VOLUME: Final = of(
    {
        "name": text,
        "hostPath": of({"path": text, "type": text}),
        "configMap": strictly_of(f"{_OPERATOR}.ConfigMapVolumeSource", {"name": text}),
    }
)
_POD: Final[dict[str, Reader]] = {
    "cores": integer,
    "coreRequest": text,
    "coreLimit": text,
    "memory": text,
    "memoryOverhead": text,
    "image": text,
    "env": many(of({"name": text, "value": text, "valueFrom": of({"fieldRef": of({"fieldPath": text})})})),
    "labels": properties,
    "annotations": properties,
    "serviceAccount": text,
    "volumeMounts": many(of({"name": text, "readOnly": boolean, "mountPath": text, "subPath": text})),
    "securityContext": of({"privileged": boolean, "runAsUser": long, "allowPrivilegeEscalation": boolean}),
    "affinity": _AFFINITY,
    "javaOptions": text,
    "terminationGracePeriodSeconds": long,
}
_REQUEST: Final = strictly_of(
    "com.apple.spark.api.SubmitApplicationRequest",
    {
        "submissionIdSuffix": text,
        "applicationName": text,
        "type": text,
        "mode": text,
        "image": text,
        "spotInstance": boolean,
        "sparkVersion": text,
        "mainClass": text,
        "mainApplicationFile": text,
        "arguments": many(text),
        "sparkConf": properties,
        "volumes": many(_VOLUME),
        "driver": of(_POD | {"podName": text, "kubernetesMaster": text}),
        "executor": of(_POD | {"instances": integer, "deleteOnTermination": boolean}),
        "driverOverheadFactor": number,
        "executorOverheadFactor": number,
        "overheadFactor": number,
        "deps": of(
            dict.fromkeys(
                ("jars", "files", "pyFiles", "packages", "excludePackages", "repositories", "archives"),
                many(text),
            )
        ),
        "pythonVersion": text,
        "imagePullPolicy": text,
        "restartPolicy": of(
            {
                "type": text,
                "onSubmissionFailureRetries": integer,
                "onFailureRetries": integer,
                "onSubmissionFailureRetryInterval": long,
                "onFailureRetryInterval": long,
            }
        ),
        "clusterId": text,
        "queue": text,
        "queueToken": text,
    },
)
"""The fields of a submission. Those below the top are fewer than Kubernetes has, and all but one class ignore what they don't know."""


def parse_request(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a submission, as the types that the gateway has for them.

    Raises:
        GatewayError: 400, with the name of the exception that the JSON library throws.
    """
    source = body.decode(errors="replace")
    language = "YAML" if "yaml" in content_type.lower() else "JSON"
    try:
        document = _load(source, language)
        if not isinstance(document, dict):
            raise Unreadable(f"{MISMATCH}: Cannot construct instance of SubmitApplicationRequest from {kind(document)}")
        request: dict[str, Any] = _REQUEST(document, "")
        return request
    except Unreadable as error:
        if language == "JSON" and _FILE_PATH.fullmatch(source):
            raise GatewayError("Invalid request body. It actually looks like a file path.") from error
        raise GatewayError(f"Invalid {language} request: {error}") from error


def _load(source: str, language: str) -> Any:
    if not source.strip():
        raise Unreadable(f"{MISMATCH}: No content to map due to end-of-input")
    if language == "JSON":
        try:
            return json.loads(source)
        except ValueError as error:
            raise Unreadable(f"{_PARSE}: {error}") from error
    import yaml

    try:
        return yaml.safe_load(source)
    except yaml.YAMLError as error:
        raise Unreadable(f"{JACKSON}.dataformat.yaml.JacksonYAMLParseException: {error}") from error
