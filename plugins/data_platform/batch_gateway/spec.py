"""What a job is submitted with, as typed models: the gateway's request, and nothing that it would ignore, alter or stumble over.

A model made in a DAG file is checked there, so a bad one fails when the file is parsed. A text with Jinja stands for anything until
`JobSpec.read` sees it rendered. Fields have the gateway's names in Python's spelling; a mapping may use either.

What the gateway does with each field was read in its source (commit aa3e5c8). Its objects take fewer keys than Kubernetes' own and drop
the others silently, so those are refused here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, SecretStr, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from data_platform.batch_gateway import forms
from data_platform.batch_gateway.exceptions import SpecRefused
from data_platform.batch_gateway.forms import DEFAULT_MAX_RUNNING_MILLIS, Form, Misfit, Path, Problem, Reading, misfit
from data_platform.batch_gateway.names import MAX_LABEL, normalise_label
from data_platform.batch_gateway.spec_text import parse

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

MAX_INSTANCES: Final = 5000
"""Executors that the gateway lets a job have."""
CLUSTER_ID_ALLOWANCE: Final = 14
"""Characters kept for a cluster's id where the spec names no cluster, when the length of the driver pod's name is reckoned."""
MAX_RUNNING_CONF: Final = "bpg.maxRunningMillis"
"""The one property in sparkConf that is the gateway's own: ms after which it kills the job."""
INSTANCES_CONF: Final = "spark.executor.instances"

_IDENTITY_ROOM: Final = MAX_LABEL - len("-") - 32 - len("-driver")
_VOLUME_KINDS: Final = (
    "mount it with sparkConf spark.kubernetes.driver.volumes.<kind>.<name>.mount.path, and executor likewise"
)
_SECRET_MOUNT: Final = "sparkConf spark.kubernetes.driver.secrets.<secret>: <directory>, and executor likewise"  # noqa: S105  # no secret
_CREDENTIALS: Final = frozenset({"apikey", "password", "token", "secret", "clientsecret", "authorization"})
"""Last parts of the names of OpenLineage's properties, in lower case, that hold one."""


class _Part(BaseModel):
    """A part of the request: frozen, each key known, each problem told with its path.

    Every model raises `SpecRefused`; `Nested` hands the problems of a part on to the whole.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        revalidate_instances="always",
        hide_input_in_errors=True,
    )
    unknown_key: ClassVar[str] = "the gateway would silently ignore it"
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Keys that Kubernetes knows and the gateway does not: what to do instead."""

    @model_validator(mode="wrap")
    @classmethod
    def _tell_every_problem(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: core_schema.ValidationInfo
    ) -> Self:
        contradictions = list(cls._contradictions(value, forms.reading_of(info)))
        try:
            part = handler(value)
        except ValidationError as error:
            raise _refused([*map(cls._problem, error.errors(include_url=False)), *contradictions]) from None
        if contradictions:
            raise _refused(contradictions)
        return part

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        """Problems between fields, told beside those of single fields; so ``value`` may be anything."""
        yield from ()

    @classmethod
    def _problem(cls, error: Any) -> Problem:
        """Pydantic's words for a problem in ours."""
        path: Path = error["loc"]
        if path and path[0] in cls.model_fields:  # a part that is checked again has Python's names
            path = (cls.model_fields[str(path[0])].alias or path[0], *path[1:])
        if error["type"] == "form":
            return Problem(path, error["msg"])
        if error["type"] == "missing":
            return Problem(path, f"expected {cls._needed(str(path[-1]))}; found nothing")
        if error["type"] == "extra_forbidden":
            return Problem(path, cls._unknown(str(path[-1])))
        if error["type"] == "invalid_key":
            return Problem(path, "expected a text as key; found something else")
        return Problem(path, f"expected an object with {', '.join(cls._keys())}; found something else")

    @classmethod
    def _keys(cls) -> list[str]:
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def _needed(cls, key: str) -> str:
        field = next(field for name, field in cls.model_fields.items() if key in (name, field.alias))
        return next((form.required for form in field.metadata if isinstance(form, Form | Nested)), "a value")

    @classmethod
    def _unknown(cls, key: str) -> str:
        if key in cls.elsewhere:
            return f"expected only {', '.join(cls._keys())}; found {key}, and {cls.unknown_key}: {cls.elsewhere[key]}"
        nearest = difflib.get_close_matches(to_camel(key), cls._keys(), 1, cutoff=0.5)
        expected = f"expected {nearest[0]}" if nearest else f"expected only {', '.join(cls._keys())}"
        return f"{expected}; found the unknown key {key[:80]}, and {cls.unknown_key}"

    def to_mapping(self) -> dict[str, Any]:
        """The part as a template field holds it: the gateway's names, nothing that is None, a token still hidden."""
        fields = type(self).model_fields.items()
        told = {field.alias or name: _plain(getattr(self, name)) for name, field in fields}
        return {key: value for key, value in told.items() if value is not None}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without fields that are not set, and without what looks like a secret."""
        for name, value in super().__repr_args__():
            if isinstance(value, Mapping):
                yield name, {key: "**********" if forms.looks_secret(key) else each for key, each in value.items()}
            elif value is not None:
                yield name, value


class Nested:
    """Makes a field take a part of the request, or a list of such parts, or Jinja that will be one."""

    def __init__(self, model: type[_Part], *, many: bool = False, required: str = "", example: str = "") -> None:
        self.model = model
        self.many = many
        self.required = required
        self.example = example

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """How pydantic asks."""
        return core_schema.with_info_plain_validator_function(self._validate)

    def _validate(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        check = forms.sequence(self._one, self.example) if self.many else self._one
        return Form(check, self.required)._validate(value, info)

    def _one(self, value: Any, reading: Reading) -> _Part:
        if not isinstance(value, _Part | Mapping):
            example = f", such as {self.example}" if self.example and not self.many else ""
            raise misfit(self.required or f"an object{example}", forms.kind(value))
        try:
            return self.model.model_validate(value, context=reading)
        except SpecRefused as refused:
            raise Misfit(*refused.problems) from None


def _refused(problems: Sequence[Problem]) -> SpecRefused:
    lines = [f"- {_told(problem.path)}: {problem.text}" for problem in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    head = f"the job's spec is refused before anything is sent, for {count}:"
    return SpecRefused("\n".join([head, *lines]), tuple(problems))


def _told(path: Path) -> str:
    told = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in path)
    return told.removeprefix(".") or "the spec"


def _plain(value: Any) -> Any:
    if isinstance(value, _Part):
        return value.to_mapping()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


# Fields' types, each with its form. All of them are str too: Jinja.
_Text = Annotated[str | None, Form(forms.prose("a text"))]
_Texts = Annotated[tuple[str, ...] | str | None, Form(forms.sequence(forms.filled_text, "['s3://bucket/a.jar']"))]
_Switch = Annotated[bool | str | None, Form(forms.switch)]
_Factor = Annotated[float | str | None, Form(forms.factor)]
_Memory = Annotated[str | None, Form(forms.memory(no_unit="the gateway answers 500 without a unit", cut=True))]
_Overhead = Annotated[str | None, Form(forms.memory(no_unit="Spark would take it for m", cut=False))]
_Image = Annotated[str | None, Form(forms.text("an image, such as registry.example.org/spark:3.5.0"))]


def _required(expected: str) -> Form:
    return Form(forms.text(expected), expected)


def _labels(value: forms.Check, example: str) -> Form:
    return Form(forms.mapping(forms.label_key, lambda key: value, example))


class FieldRef(_Part):
    """A field of the pod that gives an environment variable its value."""

    field_path: Annotated[str, _required("a pod's field, such as status.podIP")]


class EnvVarSource(_Part):
    """Where an environment variable's value comes from; the gateway knows the pod's fields only."""

    elsewhere = {
        "secretKeyRef": "give sparkConf spark.kubernetes.driver.secretKeyRef.<NAME>: <secret>:<key>, and executor likewise",
        "configMapKeyRef": "mount the config map: volumes with configMap, and volumeMounts",
    }
    field_ref: Annotated[FieldRef | str | None, Nested(FieldRef, example="{'fieldPath': 'status.podIP'}")] = None

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        if isinstance(value, Mapping | cls) and not value:
            yield Problem((), "expected a fieldRef, such as {'fieldPath': 'status.podIP'}; found nothing")


class EnvVar(_Part):
    """An environment variable of a pod. The gateway shows them to nobody.

    Attributes:
        name: case counts.
        value: empty if neither is given.
        value_from: instead of ``value``.
    """

    name: Annotated[str, Form(forms.environment_name, "the variable's name, such as AWS_REGION")]
    value: Annotated[str | None, Form(forms.as_text)] = None
    value_from: Annotated[EnvVarSource | str | None, Nested(EnvVarSource)] = None

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        if _peek(value, "value") not in (None, "") and _peek(value, "value_from") is not None:
            yield Problem(
                ("valueFrom",), "expected value or valueFrom, not both; found both (Kubernetes refuses the pod)"
            )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without a value that looks like a secret by its name."""
        for name, value in super().__repr_args__():
            yield name, "**********" if name == "value" and forms.looks_secret(self.name) else value


class VolumeMount(_Part):
    """Where a container sees a volume.

    Attributes:
        name: of the volume.
        mount_path: in the container.
        sub_path: of the volume; its root if not given.
        read_only: false if not given.
    """

    name: Annotated[str, Form(forms.name(maximum=MAX_LABEL), "the name of one of volumes")]
    mount_path: Annotated[str, _required("a path in the container, such as /data")]
    sub_path: _Text = None
    read_only: _Switch = None


class HostPath(_Part):
    """A directory or file of the node.

    Attributes:
        path: on the node.
        type: Kubernetes' word, such as DirectoryOrCreate; unchecked if not given.
    """

    path: Annotated[str, _required("a path on the node, such as /mnt/scratch")]
    type: _Text = None


class ConfigMap(_Part):
    """A config map, all of it."""

    unknown_key = "the gateway would refuse the request with 400"
    name: Annotated[str, Form(forms.dotted_name, "the config map's name")]


class Volume(_Part):
    """A volume of driver and executors; the gateway knows two kinds.

    Attributes:
        name: for `VolumeMount`.
        host_path: one of the two.
        config_map: one of the two.
    """

    elsewhere = {
        "emptyDir": _VOLUME_KINDS,
        "persistentVolumeClaim": _VOLUME_KINDS,
        "nfs": _VOLUME_KINDS,
        "secret": f"mount it with {_SECRET_MOUNT}",
    }
    name: Annotated[str, Form(forms.name(maximum=MAX_LABEL), "the volume's name, such as scratch")]
    host_path: Annotated[HostPath | str | None, Nested(HostPath, example="{'path': '/mnt/scratch'}")] = None
    config_map: Annotated[ConfigMap | str | None, Nested(ConfigMap, example="{'name': 'settings'}")] = None

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        given = [key for key in ("hostPath", "configMap") if _peek(value, key) is not None]
        other = isinstance(value, Mapping) and cls.elsewhere.keys() & value.keys()
        if len(given) != 1 and not other:
            found = " and ".join(given) or "neither"
            yield Problem((), f"expected one of hostPath and configMap; found {found}")


class SecurityContext(_Part):
    """What a container may do.

    Attributes:
        privileged: false if not given.
        run_as_user: uid; the image's if not given.
        allow_privilege_escalation: Kubernetes' default if not given.
    """

    privileged: _Switch = None
    run_as_user: Annotated[int | str | None, Form(forms.whole(maximum=forms.LONG, example=185))] = None
    allow_privilege_escalation: _Switch = None


class NodeExpression(_Part):
    """A condition on a node's label.

    Attributes:
        key: the label's.
        operator: how its value is compared with ``values``.
        values: none for Exists and DoesNotExist.
    """

    key: Annotated[str, Form(forms.label_key, "a node label's key, such as karpenter.sh/capacity-type")]
    operator: Annotated[
        str,
        Form(
            forms.word("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"),
            "one of In, NotIn, Exists, DoesNotExist, Gt, Lt",
        ),
    ]
    values: Annotated[tuple[str, ...] | str | None, Form(forms.sequence(forms.label_value, "['spot']"))] = None


class NodeTerm(_Part):
    """Conditions on a node that all must hold; the gateway knows labels only."""

    match_expressions: Annotated[
        tuple[NodeExpression, ...] | str,
        Nested(
            NodeExpression, many=True, required="a list of conditions", example="[{'key': …, 'operator': 'Exists'}]"
        ),
    ]


class PreferredTerm(_Part):
    """A wish for nodes.

    Attributes:
        weight: 1 to 100.
        preference: the nodes.
    """

    weight: Annotated[int | str, Form(forms.whole(minimum=1, maximum=100), "a weight from 1 to 100")]
    preference: Annotated[NodeTerm | str, Nested(NodeTerm, required="the nodes, as matchExpressions")]


class RequiredTerms(_Part):
    """Nodes that a pod must be on: those of any term."""

    node_selector_terms: Annotated[
        tuple[NodeTerm, ...] | str,
        Nested(NodeTerm, many=True, required="a list of terms", example="[{'matchExpressions': […]}]"),
    ]


class NodeAffinity(_Part):
    """The nodes that a pod wishes for and must be on."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredTerm, ...] | str | None,
        Nested(PreferredTerm, many=True, example="[{'weight': 100, 'preference': …}]"),
    ] = None
    required_during_scheduling_ignored_during_execution: Annotated[
        RequiredTerms | str | None, Nested(RequiredTerms, example="{'nodeSelectorTerms': […]}")
    ] = None


class Affinity(_Part):
    """The nodes for a pod; the gateway knows no affinity between pods."""

    elsewhere = dict.fromkeys(("podAffinity", "podAntiAffinity"), "choose nodes with nodeAffinity")
    node_affinity: Annotated[NodeAffinity | str | None, Nested(NodeAffinity)] = None


class RestartPolicy(_Part):
    """Whether the operator starts the job again, within one submission.

    Attributes:
        type: Never (the operator's default), OnFailure or Always.
        on_submission_failure_retries: how often, if it could not be started.
        on_failure_retries: how often, if it failed.
        on_submission_failure_retry_interval: s between.
        on_failure_retry_interval: s between.
    """

    type: Annotated[str | None, Form(forms.word("Never", "OnFailure", "Always"))] = None
    on_submission_failure_retries: Annotated[int | str | None, Form(forms.whole(example=3))] = None
    on_failure_retries: Annotated[int | str | None, Form(forms.whole(example=3))] = None
    on_submission_failure_retry_interval: Annotated[
        int | str | None, Form(forms.whole(minimum=1, maximum=forms.LONG, example=20))
    ] = None
    on_failure_retry_interval: Annotated[
        int | str | None, Form(forms.whole(minimum=1, maximum=forms.LONG, example=10))
    ] = None


class Dependencies(_Part):
    """Files and packages that Spark fetches for the job.

    Attributes:
        jars: paths, onto the class path.
        files: paths, into the working directory.
        py_files: paths of .zip, .egg or .py, onto Python's path.
        packages: Maven coordinates.
        exclude_packages: ``group:artifact`` left out of what ``packages`` bring.
        repositories: Maven repositories beside the central one.
        archives: paths, unpacked into the working directory.
    """

    jars: _Texts = None
    files: _Texts = None
    py_files: _Texts = None
    packages: _Texts = None
    exclude_packages: _Texts = None
    repositories: _Texts = None
    archives: _Texts = None


class _PodSpec(_Part):
    """What driver and executors have in common."""

    elsewhere = {
        "nodeSelector": "give sparkConf spark.kubernetes.node.selector.<label>: <value>, or affinity",
        "secrets": f"give {_SECRET_MOUNT}",
        "envFrom": "give env, or sparkConf spark.kubernetes.driver.secretKeyRef.<NAME>: <secret>:<key>",
    }

    cores: Annotated[
        int | str | None,
        Form(forms.whole(minimum=1, example=2, note="the gateway would cut a fraction off, and 0.5 to 0")),
    ] = None
    core_limit: Annotated[str | None, Form(forms.core_limit)] = None
    core_request: Annotated[str | None, Form(forms.core_request)] = None
    memory: _Memory = None
    memory_overhead: _Overhead = None
    image: _Image = None
    env: Annotated[
        tuple[EnvVar, ...] | str | None,
        Nested(EnvVar, many=True, example="[{'name': 'AWS_REGION', 'value': 'us-east-1'}]"),
    ] = None
    labels: Annotated[Mapping[str, str] | str | None, _labels(forms.label_value, "{'team': 'finance'}")] = None
    annotations: Annotated[
        Mapping[str, str] | str | None, _labels(forms.as_text, "{'example.org/owner': 'finance'}")
    ] = None
    service_account: Annotated[str | None, Form(forms.dotted_name)] = None
    volume_mounts: Annotated[
        tuple[VolumeMount, ...] | str | None,
        Nested(VolumeMount, many=True, example="[{'name': 'scratch', 'mountPath': '/data'}]"),
    ] = None
    security_context: Annotated[SecurityContext | str | None, Nested(SecurityContext)] = None
    affinity: Annotated[Affinity | str | None, Nested(Affinity)] = None
    java_options: _Text = None
    termination_grace_period_seconds: Annotated[int | str | None, Form(forms.whole(maximum=forms.LONG, example=30))] = (
        None
    )


class DriverSpec(_PodSpec):
    """The driver's pod.

    Attributes:
        cores: whole; 1 if not given.
        core_limit: the most CPU, in whole cores; as ``cores`` if not given.
        core_request: CPU that is reserved, ``2`` or ``500m``; as ``cores`` if not given.
        memory: of the JVM, ``1536m``, ``2g``; 1g if not given.
        memory_overhead: beside the JVM, ``512m``; Spark's share of ``memory`` if not given.
        image: instead of the job's.
        env: environment variables.
        labels: of the pod.
        annotations: of the pod.
        service_account: the cluster's if not given.
        volume_mounts: of the job's ``volumes``.
        security_context: what the container may do.
        affinity: nodes; the queue's if not given.
        java_options: of the JVM.
        termination_grace_period_seconds: s from the request to stop to the kill.
        pod_name: ``<submission id>-driver`` if not given.
        kubernetes_master: the address by which the driver reaches Kubernetes.
    """

    pod_name: Annotated[str | None, Form(forms.name(maximum=MAX_LABEL))] = None
    kubernetes_master: Annotated[
        str | None, Form(forms.text("an address, such as k8s://https://kubernetes.default"))
    ] = None


class ExecutorSpec(_PodSpec):
    """The executors' pods.

    Attributes:
        cores: whole; 1 if not given.
        core_limit: the most CPU, in whole cores; as ``cores`` if not given.
        core_request: CPU that is reserved, ``2`` or ``500m``; as ``cores`` if not given.
        memory: of the JVM, ``1536m``, ``2g``; 1g if not given.
        memory_overhead: beside the JVM, ``512m``; Spark's share of ``memory`` if not given.
        image: instead of the job's.
        env: environment variables.
        labels: of the pods.
        annotations: of the pods.
        service_account: Spark's if not given.
        volume_mounts: of the job's ``volumes``.
        security_context: what the containers may do.
        affinity: nodes; the queue's if not given.
        java_options: of the JVM.
        termination_grace_period_seconds: s from the request to stop to the kill.
        instances: 1 to 5000; 1 if not given.
        delete_on_termination: whether pods go when they end; Spark's default if not given.
    """

    instances: Annotated[int | str | None, Form(forms.whole(minimum=1, maximum=MAX_INSTANCES, example=2))] = None
    delete_on_termination: _Switch = None


def _property_name(value: Any, reading: Reading) -> str:
    """A key of sparkConf: one that Spark reads, or the gateway's own, and none that gives a secret away."""
    if not isinstance(value, str) or not value.startswith("spark.") or any(sign in value for sign in "= \t\n{"):
        if value == MAX_RUNNING_CONF:
            return MAX_RUNNING_CONF
        expected = f"a property that begins with spark., or {MAX_RUNNING_CONF}"
        raise misfit(expected, f"the key {forms.shown(value)}", "Spark ignores any other")
    last = value.lower().rpartition(".")[2].replace("_", "")
    if value.lower().startswith("spark.openlineage.transport") and last in _CREDENTIALS:
        raise misfit(
            "no API key or other credential of OpenLineage here: put it into an openlineage.yml in a Kubernetes secret, mount that with "
            "sparkConf spark.kubernetes.driver.secrets.<secret>: /etc/openlineage, and name the file in driver.env as OPENLINEAGE_CONFIG",
            "one",
            "the gateway's /spec and /describe show sparkConf to every user",
        )
    return value


def _property_value(key: str) -> forms.Check:
    if key == INSTANCES_CONF:
        return _whole_text(lambda reading: MAX_INSTANCES)
    if key == MAX_RUNNING_CONF:
        return _whole_text(lambda reading: reading.max_running_millis, minimum=1)
    return forms.as_text


def _whole_text(maximum: Any, *, minimum: int = 0) -> forms.Check:
    def check(value: Any, reading: Reading) -> str:
        return str(forms.whole(minimum=minimum, maximum=maximum(reading))(value, reading))

    return check


def _application_name(value: Any, reading: Reading) -> str:
    found = str(forms.text("an application name")(value, reading))
    if normalise_label(found) != found:
        expected = f"at most {MAX_LABEL} letters, digits and inner dashes, underscores and dots"
        raise misfit(expected, forms.shown(found), f"the gateway would list it as {normalise_label(found)!r}")
    return found


class JobSpec(_Part):
    """A Spark job to be submitted through the gateway.

    Attributes:
        spark_version: one that the gateway's clusters list, to the letter, such as ``3.5.0``.
        main_application_file: the jar, Python or R file, as the cluster reads it: ``local://``, ``s3a://``.
        driver: the driver's pod; ``{}`` takes the gateway's defaults.
        executor: the executors' pods; ``{}`` takes the gateway's defaults.
        type: Java, Scala, Python or R; Java with a ``main_class``, else Python, if not given.
        mode: cluster, whatever is asked for.
        main_class: the class to run, of Java and Scala.
        arguments: of the job.
        spark_conf: Spark's properties; ``bpg.maxRunningMillis`` too: ms, 12 h if not given and at most the queue's limit.
        deps: files and packages to fetch.
        image: the gateway's for type and version if not given.
        image_pull_policy: Always, IfNotPresent or Never; Kubernetes' default if not given.
        python_version: of PySpark; Spark's default if not given.
        volumes: for the pods' ``volume_mounts``; the cluster's if not given.
        restart_policy: whether the operator starts the job again.
        spot_instance: whether executors may run on spot nodes; false if not given.
        queue: one that lists the user, else ``poc``, if not given.
        queue_token: JSON web token for a queue that asks for one. Better kept in the Airflow connection.
        cluster_id: one certain cluster, past weights and the queue's clusters.
        submission_id_suffix: appended to the submission id.
        application_name: overwritten when the job is submitted: see `names.application_name`.
        driver_overhead_factor: read, but not passed on; see `remarks`.
        executor_overhead_factor: read, but not passed on.
        overhead_factor: read, but not passed on.
    """

    unknown_key = "the gateway would refuse the request with 400"

    spark_version: Annotated[
        str, Form(forms.version("3.5.0"), "the Spark version as the gateway lists it, such as '3.5.0'")
    ]
    main_application_file: Annotated[str, _required("the file to run, such as s3a://bucket/jobs/job.py")]
    driver: Annotated[
        DriverSpec | str, Nested(DriverSpec, required="the driver's pod, such as {'cores': 1, 'memory': '2g'}")
    ]
    executor: Annotated[
        ExecutorSpec | str,
        Nested(ExecutorSpec, required="the executors' pods, such as {'instances': 2, 'cores': 1, 'memory': '2g'}"),
    ]
    type: Annotated[str | None, Form(forms.word("Java", "Scala", "Python", "R"))] = None
    mode: Annotated[str | None, Form(forms.word("cluster"))] = None
    main_class: Annotated[str | None, Form(forms.text("a class, such as org.apache.spark.examples.SparkPi"))] = None
    arguments: Annotated[
        tuple[str, ...] | str | None, Form(forms.sequence(forms.filled_text, "['--date', '2026-01-31']"))
    ] = None
    spark_conf: Annotated[
        Mapping[str, str] | str | None,
        Form(forms.mapping(_property_name, _property_value, "{'spark.sql.shuffle.partitions': '200'}")),
    ] = None
    deps: Annotated[Dependencies | str | None, Nested(Dependencies, example="{'pyFiles': ['s3a://bucket/a.zip']}")] = (
        None
    )
    image: _Image = None
    image_pull_policy: Annotated[str | None, Form(forms.word("Always", "IfNotPresent", "Never"))] = None
    python_version: Annotated[str | None, Form(forms.version("3"))] = None
    volumes: Annotated[
        tuple[Volume, ...] | str | None,
        Nested(Volume, many=True, example="[{'name': 'scratch', 'hostPath': {'path': '/mnt/scratch'}}]"),
    ] = None
    restart_policy: Annotated[RestartPolicy | str | None, Nested(RestartPolicy, example="{'type': 'Never'}")] = None
    spot_instance: _Switch = None
    queue: Annotated[str | None, Form(forms.queue)] = None
    queue_token: Annotated[SecretStr | str | None, Form(forms.secret)] = None
    cluster_id: Annotated[str | None, Form(forms.cluster_id)] = None
    submission_id_suffix: Annotated[str | None, Form(forms.name())] = None
    application_name: Annotated[str | None, Form(_application_name)] = None
    driver_overhead_factor: _Factor = None
    executor_overhead_factor: _Factor = None
    overhead_factor: _Factor = None

    @classmethod
    def read(
        cls,
        source: JobSpec | Mapping[str, Any] | str,
        *,
        rendered: bool = True,
        max_running_millis: int = DEFAULT_MAX_RUNNING_MILLIS,
    ) -> JobSpec:
        """Read a spec, and refuse what the gateway would refuse, ignore or alter.

        Args:
            source: a spec, its mapping in the gateway's or Python's names, or JSON or YAML text.
            rendered: whether Jinja has been rendered: then a text with ``{{`` is judged as any other.
            max_running_millis: ms that ``bpg.maxRunningMillis`` may ask for at most: the queue's limit, where it is not 12 h.

        Raises:
            SpecRefused: the message has a line for each problem, with the field's path, what was expected and what was found.
        """
        try:
            given = parse(source) if isinstance(source, str) else source
            if not isinstance(given, JobSpec | Mapping):
                path = f" {forms.shown(given)}: is it a file that Airflow did not find?" if _is_path(given) else ""
                raise misfit(
                    "an object with sparkVersion, mainApplicationFile, driver, executor", forms.kind(given) + path
                )
        except Misfit as wrong:
            raise _refused(wrong.problems) from None
        return cls.model_validate(given, context=Reading(rendered, max_running_millis))

    def to_request(self, *, application_name: str) -> dict[str, Any]:
        """The body of the request, for JSON; the queue's token is in it.

        Args:
            application_name: of this attempt, from `names.application_name`.
        """
        token = self.queue_token
        secret = {"queueToken": token.get_secret_value()} if isinstance(token, SecretStr) else {}
        return {**self.to_mapping(), "applicationName": application_name, **secret}

    def remarks(self) -> tuple[str, ...]:
        """What the gateway takes but does little or nothing with: no reason to refuse the job, but one to say so."""
        return tuple(_remarks(self))

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        yield from _language(value)
        yield from _length(value)
        yield from _mounts(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.endswith((".json", ".yaml", ".yml"))


def _peek(value: Any, *path: str) -> Any:
    """What stands at a path of camel-case or Python's names in a mapping or a part; None if nothing does."""
    for key in path:
        snake = "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in key)
        if isinstance(value, Mapping):
            value = value.get(to_camel(snake), value.get(snake))
        else:
            value = getattr(value, snake, None) if isinstance(value, _Part) else None
    return value


def _language(value: Any) -> Iterator[Problem]:
    """Type, class and file must go together: the gateway guesses the type by the class alone."""
    kind, main_class, file = (_peek(value, key) for key in ("type", "mainClass", "mainApplicationFile"))
    if any(forms.is_template(each) for each in (kind, main_class, file)):
        return
    file = file.lower() if isinstance(file, str) else ""
    jvm = kind in ("Java", "Scala") or (not kind and bool(main_class))
    if kind in ("Java", "Scala") and not main_class:
        yield Problem(("mainClass",), f"expected the class to run, since type is {kind}; found nothing")
    elif kind in ("Python", "R") and main_class:
        yield Problem(("type",), f"expected Java or Scala, since mainClass is given; found {kind!r}")
    elif not kind and not main_class and file.endswith(".jar"):
        found = "found nothing (the gateway would take the job for Python)"
        yield Problem(("mainClass",), f"expected the class to run, since mainApplicationFile is a jar; {found}")
    elif not kind and file.endswith(".r"):
        yield Problem(("type",), "expected R, since mainApplicationFile is R; found nothing (the gateway would guess)")
    elif jvm and file.endswith((".py", ".r")):
        yield Problem(("mainApplicationFile",), f"expected a jar, since mainClass is given; found {forms.shown(file)}")
    elif kind in ("Python", "R") and file.endswith(".jar"):
        yield Problem(
            ("mainApplicationFile",), f"expected a file of {kind}, which type says; found {forms.shown(file)}"
        )


def _length(value: Any) -> Iterator[Problem]:
    """``<cluster>-<32 hex>-<suffix>-driver`` is the driver's pod, whose name has at most 63 characters."""
    cluster, suffix = _peek(value, "clusterId"), _peek(value, "submissionIdSuffix")
    if any(forms.is_template(each) or not isinstance(each, str | None) for each in (cluster, suffix)):
        return
    pod = "<cluster>-<32 hex digits>-<suffix>-driver must fit into 63"
    if suffix:
        room = _IDENTITY_ROOM - len(cluster or "c" * CLUSTER_ID_ALLOWANCE) - 1
        of = f"beside clusterId {cluster!r}" if cluster else f"beside a cluster id of up to {CLUSTER_ID_ALLOWANCE}"
        if len(suffix) > room:
            expected = f"expected at most {max(room, 0)} characters {of}, since {pod}"
            yield Problem(("submissionIdSuffix",), f"{expected}; found {len(suffix)}, {forms.shown(suffix)}")
    elif cluster and len(cluster) > _IDENTITY_ROOM:
        expected = f"expected at most {_IDENTITY_ROOM} characters, since {pod}"
        yield Problem(("clusterId",), f"{expected}; found {len(cluster)}, {forms.shown(cluster)}")


def _mounts(value: Any) -> Iterator[Problem]:
    """With volumes in the request, the gateway leaves the cluster's out: a mount of another volume would keep the pod from starting."""
    volumes = _peek(value, "volumes")
    if not isinstance(volumes, Sequence) or isinstance(volumes, str) or not volumes:
        return
    names = [_peek(volume, "name") for volume in volumes]
    if any(forms.is_template(each) for each in (*names, *volumes)):
        return
    for pod in ("driver", "executor"):
        mounts = _peek(value, pod, "volumeMounts")
        for at, mount in enumerate(mounts if isinstance(mounts, list | tuple) else ()):
            name = _peek(mount, "name")
            if isinstance(name, str) and not forms.is_template(name) and name not in names:
                known = ", ".join(str(each) for each in names)
                yield Problem(
                    (pod, "volumeMounts", at, "name"), f"expected one of volumes ({known}); found {forms.shown(name)}"
                )


_SIZES: Final = {
    "spark.driver.cores": "driver.cores",
    "spark.driver.memory": "driver.memory",
    "spark.executor.cores": "executor.cores",
    "spark.executor.memory": "executor.memory",
    INSTANCES_CONF: "executor.instances",
}


def _remarks(spec: JobSpec) -> Iterator[str]:
    for field in ("driverOverheadFactor", "executorOverheadFactor", "overheadFactor"):
        if _peek(spec, field) is not None:
            yield f"{field}: the gateway does not pass it on; give memoryOverhead, or sparkConf spark.driver.memoryOverheadFactor"
    yield from _conf_remarks(spec.spark_conf if isinstance(spec.spark_conf, Mapping) else {})
    if _peek(spec, "restartPolicy", "type") == "Always":
        yield "restartPolicy.type: with Always the operator starts the job anew when it has ended, so it never ends"
    for pod in ("driver", "executor"):
        if not spec.volumes and _peek(spec, pod, "volumeMounts"):
            yield f"{pod}.volumeMounts: without volumes, those of a cluster that has some take their place"
    if _peek(spec, "driver", "podName"):
        yield "driver.podName: a second job of that name fails as long as the first one's pod is there"


def _conf_remarks(conf: Mapping[str, str]) -> Iterator[str]:
    for key, field in _SIZES.items():
        if key in conf:
            yield f"sparkConf.{key}: {field} wins, which the gateway fills in where it is not given; give {field}"
    if "spark.app.name" in conf:
        yield "sparkConf.spark.app.name: the gateway overwrites it with the application name"
    for key in conf:
        if forms.looks_secret(key) and ".secrets." not in key and ".secretKeyRef." not in key:
            yield f"sparkConf.{key}: the gateway's /spec and /describe show it to every user; use a Kubernetes secret"
