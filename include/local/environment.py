"""The environment of the local Airflow: configuration, connections and generated secrets, all as variables of its processes.

The same DAG code reads the same connection ids as in a deployment; what they hold is rendered here.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from data_platform.lineage.config import JOB_NAMESPACE, transport_config
from include.local.aws import ingestion_names as intake
from include.local.catalog.identity import ACCOUNT_ID, DOMAIN_ID, PROJECT_ID, REGION
from include.local.layout import DEFAULT_PORTS
from include.platform import connections
from include.platform.airflow_settings import AirflowSettings, ConnectionSpec, load_airflow_settings
from include.platform.paths import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.local.layout import Layout

USERS = {"admin": "admin", "operator": "op", "viewer": "viewer"}
"""Local users and their role in Airflow's simple auth manager."""

ASTRO_STATE = "/usr/local/airflow/.local"
"""Where Astro's containers mount the stand-ins' state; the settings file names paths below it."""

BUCKET = "data-platform"

STAND_INS = ("aws", "zero-etl", "catalog", "batch-gateway")
"""What `airflow_settings.yaml` calls ``platform``, each at its port."""


ADJUSTABLE = {
    "CORE__DAGS_FOLDER",
    "CORE__PARALLELISM",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL",
    "DAG_PROCESSOR__REFRESH_INTERVAL",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT",
}
"""Options that the caller may set, beside those of the section data_platform: ``AIRFLOW__CORE__PARALLELISM=2 make up``.

Any other is the platform's own: an exported database address must not be migrated by ``make up``.
"""

FOREIGN = ("AIRFLOW", "AWS_")
"""Variables of the caller that never reach the platform: another deployment's connections, real credentials, real endpoints."""


def without_foreign(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what is foreign."""
    return {name: value for name, value in environ.items() if not name.startswith(FOREIGN)}


def write_private(path: Path, text: str) -> None:
    """Write ``text`` so that only the owner can ever read it (mode 600 from the first byte)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def load_secrets(layout: Layout) -> dict[str, Any]:
    """The generated keys and passwords; made on first use, kept until ``make clean``."""
    if layout.secrets_file.exists():
        kept: dict[str, Any] = json.loads(layout.secrets_file.read_text(encoding="utf-8"))
        return kept
    made: dict[str, Any] = {
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret_key": secrets.token_urlsafe(48),
        "passwords": {user: secrets.token_urlsafe(12) for user in USERS},
    }
    write_private(layout.secrets_file, json.dumps(made, indent=2) + "\n")
    return made


def lineage_transport(spool: str, catalog: str) -> dict[str, Any]:
    """The option ``[openlineage] transport`` of the laptop and of Astro's containers.

    Args:
        spool: URL of the folder that the events are kept in.
        catalog: URL of the catalog stand-in.
    """
    return transport_config(
        spool=spool, region=REGION, account_id=ACCOUNT_ID, domain_id=DOMAIN_ID, catalog_endpoint=catalog
    )


def render(value: Any, ports: Mapping[str, int], layout: Layout) -> Any:
    """Replace Astro's host names and state folder by this machine's in any string of a connection."""
    if isinstance(value, dict):
        return {key: render(inner, ports, layout) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    for name in STAND_INS:
        value = value.replace(f"http://platform:{DEFAULT_PORTS[name]}", f"http://127.0.0.1:{ports[name]}")
    return value.replace("http://api-server", "http://127.0.0.1").replace(ASTRO_STATE, str(layout.root))


def connection_variables(
    settings: AirflowSettings, ports: Mapping[str, int], passwords: Mapping[str, str], layout: Layout
) -> dict[str, str]:
    """``AIRFLOW_CONN_*`` for every connection of the file, rendered for this machine."""

    def as_json(spec: ConnectionSpec) -> str:
        own_api = spec.conn_id == connections.AIRFLOW_API
        fields = {
            "conn_type": spec.conn_type,
            "host": render(spec.host, ports, layout),
            "schema": spec.schema,
            "login": "admin" if own_api else spec.login,
            "password": passwords["admin"] if own_api else spec.password,
            "port": ports["api-server"] if own_api else spec.port,
            "extra": render(spec.extra, ports, layout),
        }
        return json.dumps({key: value for key, value in fields.items() if value})

    return {f"AIRFLOW_CONN_{spec.conn_id.upper()}": as_json(spec) for spec in settings.connections}


def airflow_environment(layout: Layout, ports: Mapping[str, int], *, no_login: bool = False) -> dict[str, str]:
    """All variables that make Airflow the local platform's, on top of the caller's own environment."""
    generated = load_secrets(layout)
    passwords_file = layout.airflow_home / "simple_auth_manager_passwords.json"
    write_private(passwords_file, json.dumps(generated["passwords"]))
    url = f"http://127.0.0.1:{ports['api-server']}"
    config = {
        "CORE__DAGS_FOLDER": str(PROJECT_ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(PROJECT_ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__TEST_CONNECTION": "Enabled",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__FERNET_KEY": generated["fernet_key"],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file),
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(no_login),
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{layout.airflow_home / 'airflow.db'}",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(ports["api-server"]),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": generated["api_secret_key"],
        "API_AUTH__JWT_SECRET": generated["jwt_secret"],
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        # A worker may notice only after so many seconds that its task is over, and holds its slot as long. A paused task that is resumed
        # within them is taken for one whose worker has died: Airflow tries it again, and forgets a person's answer.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "WORKERS__MAX_FAILED_HEARTBEATS": "15",  # as many seconds without an API server as with the default of 3 at 5 s
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
        "LOGGING__BASE_LOG_FOLDER": str(layout.airflow_home / "logs"),
        "OPENLINEAGE__NAMESPACE": JOB_NAMESPACE,
        "OPENLINEAGE__TRANSPORT": json.dumps(
            lineage_transport(f"file://{layout.lineage}", f"http://127.0.0.1:{ports['catalog']}")
        ),
        # Of the scheduler, for the events of whole runs; each holds an Airflow in memory.
        "OPENLINEAGE__DAG_STATE_CHANGE_PROCESS_POOL_SIZE": "1",
        "DATA_PLATFORM__CATALOG_DOMAIN_ID": DOMAIN_ID,
        "DATA_PLATFORM__CATALOG_PROJECT_ID": PROJECT_ID,
        "DATA_PLATFORM__BUCKET": BUCKET,
        "DATA_PLATFORM__WAREHOUSE_VENV": str(layout.warehouse_venv),
        "DATA_PLATFORM__ZERO_ETL_POLL_SECONDS": "2",
        "DATA_PLATFORM__SCRATCH_DIR": str(layout.root / "scratch"),
        # Nobody's logs come in by themselves here, and each look costs a laptop some seconds of a core.
        "DATA_PLATFORM__INGESTION_SCHEDULE": "@hourly",
        "DATA_PLATFORM__INGESTION_QUEUE_URL": intake.queue_url(f"http://127.0.0.1:{ports['aws']}"),
        "DATA_PLATFORM__INGESTION_QUEUE_POLL_SECONDS": "2",
        "DATA_PLATFORM__INGESTION_QUEUE_MIN_GAP_SECONDS": "15",
        "DATA_PLATFORM__INGESTION_LAKE_ACCOUNT": ACCOUNT_ID,
        "DATA_PLATFORM__INGESTION_LAKE_BUCKET": intake.LAKE_BUCKET,
        "DATA_PLATFORM__INGESTION_LAKE_CRAWLER_ROLE": intake.CRAWLER_ROLE,
    }
    variables = {
        f"AIRFLOW__{key}": os.environ.get(f"AIRFLOW__{key}", value)
        for key, value in config.items()
        if key in ADJUSTABLE
    }
    variables |= {f"AIRFLOW__{key}": value for key, value in config.items() if key not in ADJUSTABLE}
    variables |= {key: value for key, value in os.environ.items() if key.startswith("AIRFLOW__DATA_PLATFORM__")}
    settings = load_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
    return {
        **variables,
        **connection_variables(settings, ports, generated["passwords"], layout),
        "AIRFLOW_HOME": str(layout.airflow_home),
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "plugins")]),
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "DATA_PLATFORM_LOCAL_DIR": str(layout.root),
        # The platform never leaves the machine: the stand-ins answer with these.
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }
