"""Keys that people know from Kubernetes, the Spark operator and EMR on EKS, and the gateway does not: what to write instead."""

from __future__ import annotations

from typing import Final

_LIKEWISE: Final = "and executor likewise"
_TEMPLATE: Final = f"give a pod template by sparkConf spark.kubernetes.driver.podTemplateFile, {_LIKEWISE}, that the Spark operator reads"
_SECRET_MOUNT: Final = f"sparkConf spark.kubernetes.driver.secrets.<secret>: <directory>, {_LIKEWISE}"
_SECRET_KEY: Final = f"give sparkConf spark.kubernetes.driver.secretKeyRef.<NAME>: <secret>:<key>, {_LIKEWISE}"
_MOUNT: Final = f"mount it with sparkConf spark.kubernetes.driver.volumes.<kind>.<name>.mount.path, {_LIKEWISE}"
_CONFIG_MAP: Final = "mount the config map: volumes with configMap, and volumeMounts"
_SELECTOR: Final = "give sparkConf spark.kubernetes.node.selector.<label>: <value>, or affinity of driver and executor"
_SCHEDULER: Final = "give sparkConf spark.kubernetes.scheduler.name, if the gateway's own choice won't do"
_TEMPLATED: Final = (
    "dnsConfig",
    "hostAliases",
    "hostNetwork",
    "initContainers",
    "lifecycle",
    "podSecurityContext",
    "ports",
    "priorityClassName",
    "shareProcessNamespace",
    "sidecars",
    "template",
    "tolerations",
    "topologySpreadConstraints",
)

ENVIRONMENT_SOURCES: Final = {"secretKeyRef": _SECRET_KEY, "configMapKeyRef": _CONFIG_MAP}
VOLUME_KINDS: Final = {
    **dict.fromkeys(("emptyDir", "persistentVolumeClaim", "nfs"), _MOUNT),
    "secret": f"mount it with {_SECRET_MOUNT}",
}
AFFINITIES: Final = dict.fromkeys(("podAffinity", "podAntiAffinity"), "choose nodes with nodeAffinity")
POD_KEYS: Final = {
    **dict.fromkeys(_TEMPLATED, _TEMPLATE),
    "configMaps": _CONFIG_MAP,
    "envFrom": f"give env, or {_SECRET_KEY.removeprefix('give ')}",
    "envSecretKeyRefs": _SECRET_KEY,
    "envVars": "give env, a list such as [{'name': 'AWS_REGION', 'value': 'us-east-1'}]",
    "gpu": "give sparkConf spark.executor.resource.gpu.amount and .vendor, and driver likewise",
    "imagePullPolicy": "give imagePullPolicy of the job",
    "nodeSelector": _SELECTOR,
    "resources": "give cores, coreRequest, coreLimit and memory",
    "schedulerName": _SCHEDULER,
    "secrets": f"give {_SECRET_MOUNT}",
}

_EACH_POD: Final = ("affinity", "annotations", "env", "javaOptions", "labels", "securityContext", "volumeMounts")
_RETRIES: Final = "give restartPolicy, or the task's retries"
_BELOW_SPEC: Final = "give what is below spec of a SparkApplication, and nothing beside it"
JOB_KEYS: Final = {
    **dict.fromkeys(_TEMPLATED, _TEMPLATE),
    **{key: f"give driver.{key} and executor.{key}" for key in _EACH_POD},
    **dict.fromkeys(("batchScheduler", "batchSchedulerOptions", "schedulerName"), _SCHEDULER),
    **dict.fromkeys(("failureRetries", "retryInterval", "retryPolicyConfiguration"), _RETRIES),
    **dict.fromkeys(("apiVersion", "kind", "metadata", "spec"), _BELOW_SPEC),
    "dynamicAllocation": "give sparkConf spark.dynamicAllocation.enabled, .shuffleTracking.enabled, .minExecutors, .maxExecutors",
    "hadoopConf": "give sparkConf spark.hadoop.<property>",
    "hadoopConfigMap": _CONFIG_MAP,
    "imagePullSecrets": "give sparkConf spark.kubernetes.container.image.pullSecrets",
    "name": "leave it out, since the operator names the job",
    "nodeSelector": _SELECTOR,
    "serviceAccount": "give driver.serviceAccount",
    "sparkConfigMap": _CONFIG_MAP,
    # EMR on EKS: start_job_run
    "configurationOverrides": "give sparkConf for the properties of spark-defaults",
    "entryPoint": "give mainApplicationFile",
    "entryPointArguments": "give arguments",
    "executionRoleArn": "give driver.serviceAccount and executor.serviceAccount, accounts that have the role",
    "jobDriver": "give mainApplicationFile, arguments, mainClass and sparkConf",
    "releaseLabel": "give sparkVersion, and image if it is not the gateway's own",
    "sparkSubmitJobDriver": "give mainApplicationFile, arguments, mainClass and sparkConf",
    "sparkSubmitParameters": "give sparkConf, mainClass, driver, executor and deps",
    "virtualClusterId": "give clusterId, if the gateway must not choose",
}
