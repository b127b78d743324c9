"""The pods of a job's spec, with the Kubernetes objects that the gateway takes for them: fewer keys than Kubernetes has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from data_platform.batch_gateway import forms, spec_form
from data_platform.batch_gateway.elsewhere import AFFINITIES, ENVIRONMENT_SOURCES, POD_KEYS, VOLUME_KINDS
from data_platform.batch_gateway.names import MAX_LABEL
from data_platform.batch_gateway.spec_form import Form, Problem, Reading
from data_platform.batch_gateway.spec_part import Image, Nested, Part, Switch, Text, needed, peek

MAX_INSTANCES: Final = 5000
"""Executors that the gateway lets a job have."""

_Memory = Annotated[str | None, Form(forms.memory(parsed=True))]
_Overhead = Annotated[str | None, Form(forms.memory(parsed=False))]


def _labels(value: spec_form.Check, example: str) -> Form:
    return Form(spec_form.mapping(forms.label_key, lambda key: value, example))


class FieldRef(Part):
    """A field of the pod that gives an environment variable its value."""

    field_path: Annotated[str, needed("a pod's field, such as status.podIP")]


class EnvVarSource(Part):
    """Where an environment variable's value comes from; the gateway knows the pod's fields only."""

    elsewhere: ClassVar[Mapping[str, str]] = ENVIRONMENT_SOURCES
    field_ref: Annotated[FieldRef | str | None, Nested(FieldRef, example="{'fieldPath': 'status.podIP'}")] = None

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        if isinstance(value, Mapping | cls) and not value:
            yield Problem((), "expected a fieldRef, such as {'fieldPath': 'status.podIP'}; found nothing")


class EnvVar(Part):
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
        if peek(value, "value") not in (None, "") and peek(value, "value_from") is not None:
            yield Problem(
                ("valueFrom",), "expected value or valueFrom, not both; found both (Kubernetes refuses the pod)"
            )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without a value that looks like a secret by its name."""
        for name, value in super().__repr_args__():
            yield name, "**********" if name == "value" and spec_form.looks_secret(self.name) else value


class VolumeMount(Part):
    """Where a container sees a volume.

    Attributes:
        name: of the volume.
        mount_path: in the container.
        sub_path: of the volume; its root if not given.
        read_only: false if not given.
    """

    name: Annotated[str, Form(forms.name(maximum=MAX_LABEL), "the name of one of volumes")]
    mount_path: Annotated[str, needed("a path in the container, such as /data")]
    sub_path: Text = None
    read_only: Switch = None


class HostPath(Part):
    """A directory or file of the node.

    Attributes:
        path: on the node.
        type: Kubernetes' word, such as DirectoryOrCreate; unchecked if not given.
    """

    path: Annotated[str, needed("a path on the node, such as /mnt/scratch")]
    type: Text = None


class ConfigMap(Part):
    """A config map, all of it."""

    unknown_key: ClassVar[str] = "the gateway would refuse the request with 400"
    name: Annotated[str, Form(forms.dotted_name, "the config map's name")]


class Volume(Part):
    """A volume of driver and executors; the gateway knows two kinds.

    Attributes:
        name: for `VolumeMount`.
        host_path: one of the two.
        config_map: one of the two.
    """

    elsewhere: ClassVar[Mapping[str, str]] = VOLUME_KINDS
    name: Annotated[str, Form(forms.name(maximum=MAX_LABEL), "the volume's name, such as scratch")]
    host_path: Annotated[HostPath | str | None, Nested(HostPath, example="{'path': '/mnt/scratch'}")] = None
    config_map: Annotated[ConfigMap | str | None, Nested(ConfigMap, example="{'name': 'settings'}")] = None

    @classmethod
    def _contradictions(cls, value: Any, reading: Reading) -> Iterator[Problem]:
        given = [key for key in ("hostPath", "configMap") if peek(value, key) is not None]
        other = isinstance(value, Mapping) and cls.elsewhere.keys() & value.keys()
        if len(given) != 1 and not other:
            found = " and ".join(given) or "neither"
            yield Problem((), f"expected one of hostPath and configMap; found {found}")


class SecurityContext(Part):
    """What a container may do.

    Attributes:
        privileged: false if not given.
        run_as_user: uid; the image's if not given.
        allow_privilege_escalation: Kubernetes' default if not given.
    """

    privileged: Switch = None
    run_as_user: Annotated[int | str | None, Form(forms.whole(maximum=forms.LONG, example=185))] = None
    allow_privilege_escalation: Switch = None


class NodeExpression(Part):
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
    values: Annotated[tuple[str, ...] | str | None, Form(spec_form.sequence(forms.label_value, "['spot']"))] = None


class NodeTerm(Part):
    """Conditions on a node that all must hold; the gateway knows labels only."""

    match_expressions: Annotated[
        tuple[NodeExpression, ...] | str,
        Nested(
            NodeExpression, many=True, required="a list of conditions", example="[{'key': …, 'operator': 'Exists'}]"
        ),
    ]


class PreferredTerm(Part):
    """A wish for nodes.

    Attributes:
        weight: 1 to 100.
        preference: the nodes.
    """

    weight: Annotated[int | str, Form(forms.whole(minimum=1, maximum=100), "a weight from 1 to 100")]
    preference: Annotated[NodeTerm | str, Nested(NodeTerm, required="the nodes, as matchExpressions")]


class RequiredTerms(Part):
    """Nodes that a pod must be on: those of any term."""

    node_selector_terms: Annotated[
        tuple[NodeTerm, ...] | str,
        Nested(NodeTerm, many=True, required="a list of terms", example="[{'matchExpressions': […]}]"),
    ]


class NodeAffinity(Part):
    """The nodes that a pod wishes for and must be on."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredTerm, ...] | str | None,
        Nested(PreferredTerm, many=True, example="[{'weight': 100, 'preference': …}]"),
    ] = None
    required_during_scheduling_ignored_during_execution: Annotated[
        RequiredTerms | str | None, Nested(RequiredTerms, example="{'nodeSelectorTerms': […]}")
    ] = None


class Affinity(Part):
    """The nodes for a pod; the gateway knows no affinity between pods."""

    elsewhere: ClassVar[Mapping[str, str]] = AFFINITIES
    node_affinity: Annotated[NodeAffinity | str | None, Nested(NodeAffinity)] = None


class PodSpec(Part):
    """What driver and executors have in common.

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
        service_account: if not given, the cluster's for the driver, Spark's for executors.
        volume_mounts: of the job's ``volumes``.
        security_context: what the container may do.
        affinity: nodes; the queue's if not given.
        java_options: of the JVM.
        termination_grace_period_seconds: s from the request to stop to the kill.
    """

    elsewhere: ClassVar[Mapping[str, str]] = POD_KEYS

    cores: Annotated[
        int | str | None,
        Form(forms.whole(minimum=1, example=2, note="the gateway would cut a fraction off, and 0.5 to 0")),
    ] = None
    core_limit: Annotated[str | None, Form(forms.core_limit)] = None
    core_request: Annotated[str | None, Form(forms.core_request)] = None
    memory: _Memory = None
    memory_overhead: _Overhead = None
    image: Image = None
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
    java_options: Text = None
    termination_grace_period_seconds: Annotated[int | str | None, Form(forms.whole(maximum=forms.LONG, example=30))] = (
        None
    )


class DriverSpec(PodSpec):
    """The driver's pod: what `PodSpec` has, and its own.

    Attributes:
        pod_name: ``<submission id>-driver`` if not given.
        kubernetes_master: the address by which the driver reaches Kubernetes.
    """

    pod_name: Annotated[str | None, Form(forms.name(maximum=MAX_LABEL))] = None
    kubernetes_master: Annotated[
        str | None, Form(forms.text("an address, such as k8s://https://kubernetes.default"))
    ] = None


class ExecutorSpec(PodSpec):
    """The executors' pods: what `PodSpec` has, and their own.

    Attributes:
        instances: 1 to 5000; 1 if not given.
        delete_on_termination: whether pods go when they end; Spark's default if not given.
    """

    instances: Annotated[int | str | None, Form(forms.whole(minimum=1, maximum=MAX_INSTANCES, example=2))] = None
    delete_on_termination: Switch = None
