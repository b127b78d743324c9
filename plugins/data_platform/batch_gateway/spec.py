"""What a job is submitted with, as typed models: the gateway's request, and nothing that it would ignore, alter or stumble over.

A model made in a DAG file is checked there, so a bad one fails when the file is parsed. A text with Jinja stands for anything until
`JobSpec.read` sees it rendered. Fields have the gateway's names in Python's spelling; a mapping may use either.

What the gateway does with each field was read in its public source. Its objects take fewer keys than Kubernetes' own and drop the others
silently, so those are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import SecretStr

from data_platform.batch_gateway import forms, spec_form
from data_platform.batch_gateway.elsewhere import JOB_KEYS
from data_platform.batch_gateway.names import MAX_LABEL, normalise_label
from data_platform.batch_gateway.spec_form import Form, Misfit, Problem, Reading, misfit
from data_platform.batch_gateway.spec_part import Image, Nested, Part, Switch, needed, peek, refused
from data_platform.batch_gateway.spec_pods import MAX_INSTANCES, DriverSpec, EnvVar, ExecutorSpec, Volume, VolumeMount
from data_platform.batch_gateway.spec_text import parse

__all__ = ["Dependencies", "DriverSpec", "EnvVar", "ExecutorSpec", "JobSpec", "RestartPolicy", "Volume", "VolumeMount"]

CLUSTER_ID_ALLOWANCE: Final = 14
"""Characters kept for a cluster's id where the spec names no cluster, when the length of the driver pod's name is reckoned."""
MAX_RUNNING_CONF: Final = "bpg.maxRunningMillis"
"""The one property in sparkConf that is the gateway's own: ms after which it kills the job."""
INSTANCES_CONF: Final = "spark.executor.instances"

_IDENTITY_ROOM: Final = MAX_LABEL - len("-") - 32 - len("-driver")
_CREDENTIALS: Final = frozenset({"apikey", "password", "token", "secret", "clientsecret", "authorization"})
"""Last parts of the names of OpenLineage's properties, in lower case, that hold one."""

_Texts = Annotated[tuple[str, ...] | str | None, Form(spec_form.sequence(forms.filled_text, "['s3://bucket/a.jar']"))]
_Factor = Annotated[float | str | None, Form(forms.factor)]


class RestartPolicy(Part):
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


class Dependencies(Part):
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


def _property_name(value: Any, reading: Reading) -> str:
    """A key of sparkConf: one that Spark reads, or the gateway's own, and none that gives a secret away."""
    if not isinstance(value, str) or not value.startswith("spark.") or any(sign in value for sign in "= \t\n{"):
        if value == MAX_RUNNING_CONF:
            return MAX_RUNNING_CONF
        expected = f"a property that begins with spark., or {MAX_RUNNING_CONF}"
        raise misfit(expected, f"the key {spec_form.shown(value)}", "Spark ignores any other")
    last = value.lower().rpartition(".")[2].replace("_", "")
    if value.lower().startswith("spark.openlineage.transport") and last in _CREDENTIALS:
        raise misfit(
            "no API key or other credential of OpenLineage here: put it into an openlineage.yml in a Kubernetes secret, mount that with "
            "sparkConf spark.kubernetes.driver.secrets.<secret>: /etc/openlineage, and name the file in driver.env as OPENLINEAGE_CONFIG",
            "one",
            "the gateway's /spec and /describe show sparkConf to every user",
        )
    return value


def _property_value(key: str) -> spec_form.Check:
    if key == INSTANCES_CONF:
        return lambda value, reading: str(forms.whole(maximum=MAX_INSTANCES)(value, reading))
    if key == MAX_RUNNING_CONF:
        return _running_time
    return forms.as_text


def _running_time(value: Any, reading: Reading) -> str:
    most = forms.LONG if reading.max_running_millis is None else reading.max_running_millis
    return str(forms.whole(minimum=1, maximum=most, whose="the operator's queue_limit in ms")(value, reading))


def _application_name(value: Any, reading: Reading) -> str:
    found = str(forms.text("an application name")(value, reading))
    if normalise_label(found) != found:
        expected = f"at most {MAX_LABEL} letters, digits and inner dashes, underscores and dots"
        raise misfit(expected, spec_form.shown(found), f"the gateway would list it as {normalise_label(found)!r}")
    return found


class JobSpec(Part):
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

    unknown_key: ClassVar[str] = "the gateway would refuse the request with 400"
    elsewhere: ClassVar[Mapping[str, str]] = JOB_KEYS

    spark_version: Annotated[
        str, Form(forms.version("3.5.0"), "the Spark version as the gateway lists it, such as '3.5.0'")
    ]
    main_application_file: Annotated[str, needed("the file to run, such as s3a://bucket/jobs/job.py")]
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
        tuple[str, ...] | str | None, Form(spec_form.sequence(forms.as_text, "['--date', '2026-01-31']"))
    ] = None
    spark_conf: Annotated[
        Mapping[str, str] | str | None,
        Form(spec_form.mapping(_property_name, _property_value, "{'spark.sql.shuffle.partitions': '200'}")),
    ] = None
    deps: Annotated[Dependencies | str | None, Nested(Dependencies, example="{'pyFiles': ['s3a://bucket/a.zip']}")] = (
        None
    )
    image: Image = None
    image_pull_policy: Annotated[str | None, Form(forms.word("Always", "IfNotPresent", "Never"))] = None
    python_version: Annotated[str | None, Form(forms.version("3"))] = None
    volumes: Annotated[
        tuple[Volume, ...] | str | None,
        Nested(Volume, many=True, example="[{'name': 'scratch', 'hostPath': {'path': '/mnt/scratch'}}]"),
    ] = None
    restart_policy: Annotated[RestartPolicy | str | None, Nested(RestartPolicy, example="{'type': 'Never'}")] = None
    spot_instance: Switch = None
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
        max_running_millis: int | None = None,
    ) -> JobSpec:
        """Read a spec, and refuse what the gateway would refuse, ignore or alter.

        Args:
            source: a spec, its mapping in the gateway's or Python's names, or JSON or YAML text.
            rendered: whether Jinja has been rendered: then a text with ``{{`` is judged as any other.
            max_running_millis: ms that ``bpg.maxRunningMillis`` may ask for at most: the operator's ``queue_limit``. None where that is
                not known, as in a spec that is made before its operator.

        Raises:
            SpecRefused: the message has a line for each problem, with the field's path, what was expected and what was found.
        """
        try:
            given = parse(source) if isinstance(source, str) else source
            if not isinstance(given, JobSpec | Mapping):
                path = f" {spec_form.shown(given)}: is it a file that Airflow did not find?" if _is_path(given) else ""
                raise misfit(
                    "an object with sparkVersion, mainApplicationFile, driver, executor", spec_form.kind(given) + path
                )
        except Misfit as wrong:
            raise refused(wrong.problems) from None
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


def _language(value: Any) -> Iterator[Problem]:
    """Type, class and file must go together: the gateway guesses the type by the class alone."""
    kind, main_class, file = (peek(value, key) for key in ("type", "mainClass", "mainApplicationFile"))
    if any(spec_form.is_template(each) for each in (kind, main_class, file)):
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
        yield Problem(
            ("mainApplicationFile",), f"expected a jar, since mainClass is given; found {spec_form.shown(file)}"
        )
    elif kind in ("Python", "R") and file.endswith(".jar"):
        yield Problem(
            ("mainApplicationFile",), f"expected a file of {kind}, which type says; found {spec_form.shown(file)}"
        )


def _length(value: Any) -> Iterator[Problem]:
    """``<cluster>-<32 hex>-<suffix>-driver`` is the driver's pod, whose name has at most 63 characters."""
    cluster, suffix = peek(value, "clusterId"), peek(value, "submissionIdSuffix")
    if any(spec_form.is_template(each) or not isinstance(each, str | None) for each in (cluster, suffix)):
        return
    pod = "<cluster>-<32 hex digits>-<suffix>-driver must fit into 63"
    if suffix:
        room = _IDENTITY_ROOM - len(cluster or "c" * CLUSTER_ID_ALLOWANCE) - 1
        of = f"beside clusterId {cluster!r}" if cluster else f"beside a cluster id of up to {CLUSTER_ID_ALLOWANCE}"
        if len(suffix) > room:
            expected = f"expected at most {max(room, 0)} characters {of}, since {pod}"
            yield Problem(("submissionIdSuffix",), f"{expected}; found {len(suffix)}, {spec_form.shown(suffix)}")
    elif cluster and len(cluster) > _IDENTITY_ROOM:
        expected = f"expected at most {_IDENTITY_ROOM} characters, since {pod}"
        yield Problem(("clusterId",), f"{expected}; found {len(cluster)}, {spec_form.shown(cluster)}")


def _mounts(value: Any) -> Iterator[Problem]:
    """With volumes in the request, the gateway leaves the cluster's out: a mount of another volume would keep the pod from starting."""
    volumes = peek(value, "volumes")
    if not isinstance(volumes, Sequence) or isinstance(volumes, str) or not volumes:
        return
    names = [peek(volume, "name") for volume in volumes]
    if any(spec_form.is_template(each) for each in (*names, *volumes)):
        return
    for pod in ("driver", "executor"):
        mounts = peek(value, pod, "volumeMounts")
        for at, mount in enumerate(mounts if isinstance(mounts, list | tuple) else ()):
            name = peek(mount, "name")
            if isinstance(name, str) and not spec_form.is_template(name) and name not in names:
                known = ", ".join(str(each) for each in names)
                yield Problem(
                    (pod, "volumeMounts", at, "name"),
                    f"expected one of volumes ({known}); found {spec_form.shown(name)}",
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
        if peek(spec, field) is not None:
            yield f"{field}: the gateway does not pass it on; give memoryOverhead, or sparkConf spark.driver.memoryOverheadFactor"
    yield from _conf_remarks(spec.spark_conf if isinstance(spec.spark_conf, Mapping) else {})
    if isinstance(spec.cluster_id, str) and "-" in spec.cluster_id and not spec_form.is_template(spec.cluster_id):
        yield (
            "clusterId: with a dash in it, the gateway can neither tell of the job by its id nor cancel it: it is found in listings only"
        )
    if peek(spec, "restartPolicy", "type") == "Always":
        yield "restartPolicy.type: with Always the operator starts the job anew when it has ended, so it never ends"
    for pod in ("driver", "executor"):
        yield from _size_remarks(pod, peek(spec, pod, "memoryOverhead"), peek(spec, pod, "coreRequest"))
        if not spec.volumes and peek(spec, pod, "volumeMounts"):
            yield f"{pod}.volumeMounts: without volumes, those of a cluster that has some take their place"
    if peek(spec, "driver", "podName"):
        yield "driver.podName: a second job of that name fails as long as the first one's pod is there"


def _size_remarks(pod: str, overhead: Any, cores: Any) -> Iterator[str]:
    if isinstance(overhead, str) and overhead.isdecimal():
        yield f"{pod}.memoryOverhead: Spark takes {overhead} for MiB; write {overhead}m"
    if isinstance(cores, str) and "." in cores and not spec_form.is_template(cores) and float(cores) % 1:
        yield f"{pod}.coreRequest: later versions of the gateway round {cores}; {float(cores) * 1000:.0f}m is the same to all"


def _conf_remarks(conf: Mapping[str, str]) -> Iterator[str]:
    for key, field in _SIZES.items():
        if key in conf:
            yield f"sparkConf.{key}: {field} wins, which the gateway fills in where it is not given; give {field}"
    if "spark.app.name" in conf:
        yield "sparkConf.spark.app.name: the gateway overwrites it with the application name"
    for key in conf:
        if spec_form.looks_secret(key) and ".secrets." not in key and ".secretKeyRef." not in key:
            yield f"sparkConf.{key}: the gateway's /spec and /describe show it to every user; use a Kubernetes secret"
