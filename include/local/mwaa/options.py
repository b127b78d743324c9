"""The configuration options of an MWAA environment, as ``aws mwaa update-environment`` and Terraform take them.

``python -m include.local mwaa-options --help`` prints them for an account. What Airflow reads from them is made where it is read: the
lineage transport in ``data_platform.lineage.config``, the settings in ``include.platform.settings``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.session import get_session

from data_platform.lineage.config import JOB_NAMESPACE, transport_config
from data_platform.lineage.exceptions import LineageConfigInvalid
from include.platform import connections
from include.platform.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LINEAGE_PREFIX = "lineage"
"""Of the spool's objects in the bucket."""
CONNECTIONS_PREFIX = "data-platform/connections"
"""Of the connections' secrets; the execution role may read no others (``deploy/iam/platform.json``)."""
SECRETS_BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


class OptionsInvalid(ValueError):
    """An option would be refused, by MWAA or by what reads it."""


@dataclass(frozen=True)
class Deployment:
    """What differs from one environment to another.

    Attributes:
        region: of the environment, its warehouse and its catalog.
        account: of the same.
        bucket: of the platform's state; may be the environment's own.
        domain: DataZone domain's id; empty means that lineage is spooled only.
        project: DataZone project's id.
        redshift: warehouse by host, as ``workgroup:NAME`` or ``cluster:NAME``, for hosts that don't say it: custom names, VPC endpoints.
    """

    region: str
    account: str
    bucket: str
    domain: str = ""
    project: str = ""
    redshift: Mapping[str, str] = field(default_factory=dict)


EXAMPLE = Deployment(
    region="us-east-1",
    account="123456789012",
    bucket="data-platform-123456789012",
    domain="dzd_4i1qknl2a5ec7b",
    project="5t1r2q3p4o5n6m",
)
"""``deploy/mwaa/airflow-configuration-options.json`` is of it."""


def secrets_lookup_pattern() -> str:
    """The ids of this project's connections that a secret may hold; for any other no call is made.

    ``aws_default`` is not among them: without it the execution role signs, and it would be looked up with every call of AWS.
    """
    ids = {value for name, value in vars(connections).items() if name.isupper() and isinstance(value, str)}
    return f"^({'|'.join(sorted(ids - {connections.AWS}))})$"


def secrets_backend_options() -> dict[str, Any]:
    """Arguments of the secrets backend. The project keeps no variables or configuration there, so those are never asked for."""
    return {
        "connections_prefix": CONNECTIONS_PREFIX,
        "connections_lookup_pattern": secrets_lookup_pattern(),
        "variables_prefix": None,
        "config_prefix": None,
    }


def configuration_options(deployment: Deployment) -> dict[str, str]:
    """Every option that the platform needs on MWAA, by ``section.option``.

    The option ``[workers] secrets_backend`` stays unset: MWAA itself sets ``[workers] secrets_backend_kwargs``, which Airflow would then
    take instead of ours; unset, workers use ``[secrets]``.

    Raises:
        OptionsInvalid: one would be refused; the message says which, what was expected and what found.
    """
    if not _BUCKET.fullmatch(deployment.bucket):
        raise OptionsInvalid(f"bucket: expected an S3 bucket's name, found {deployment.bucket!r}")
    try:
        transport = transport_config(
            spool=f"s3://{deployment.bucket}/{LINEAGE_PREFIX}",
            region=deployment.region,
            account_id=deployment.account,
            domain_id=deployment.domain,
            redshift=_redshift(deployment.redshift.items()),
        )
    except LineageConfigInvalid as error:
        raise OptionsInvalid(str(error)) from error
    options = {
        "data_platform.bucket": deployment.bucket,
        "data_platform.catalog_domain_id": deployment.domain,
        "data_platform.catalog_project_id": deployment.project,
        "openlineage.namespace": JOB_NAMESPACE,
        "openlineage.transport": _json(transport),
        "secrets.backend": SECRETS_BACKEND,
        "secrets.backend_kwargs": _json(secrets_backend_options()),
    }
    options = {
        name: value for name, value in options.items() if value
    }  # MWAA takes no empty value; empty is the default
    check(options)
    return options


def check(options: Mapping[str, str]) -> None:
    """Hold options to what MWAA's API and the project's own settings take.

    Raises:
        OptionsInvalid: one would be refused.
    """
    shape = get_session().get_service_model("mwaa").operation_model("CreateEnvironment").input_shape
    options_shape: Any = shape.members["AirflowConfigurationOptions"]
    for name, value in options.items():
        for what, text, limits in (
            ("name", name, options_shape.key.metadata),
            ("value", value, options_shape.value.metadata),
        ):
            if not limits["min"] <= len(text) <= limits["max"]:
                raise OptionsInvalid(
                    f"option {name}: expected a {what} of {limits['min']} to {limits['max']} characters, which MWAA takes, "
                    f"found {len(text)}"
                )
            if not re.fullmatch(limits["pattern"], text):
                raise OptionsInvalid(
                    f"option {name}: expected a {what} like {limits['pattern']}, which MWAA takes, found {text[:200]!r}"
                )
    try:
        load_settings(environment(options))
    except SettingsError as error:
        raise OptionsInvalid(str(error)) from error


def environment(options: Mapping[str, str]) -> dict[str, str]:
    """The variables that MWAA makes of options."""
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}": value
        for name, value in options.items()
        for section, option in [name.split(".", 1)]
    }


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _redshift(hosts: Iterable[tuple[str, str]]) -> dict[str, dict[str, str]]:
    entries = {}
    for host, what in hosts:
        kind, _, name = what.partition(":")
        if kind not in {"workgroup", "cluster"} or not name:
            raise OptionsInvalid(f"redshift host {host}: expected workgroup:NAME or cluster:NAME, found {what!r}")
        entries[host] = {kind: name}
    return entries
