"""What dbt is told through its environment: the target, where the warehouse is, and the secret.

``dbt_project/profiles.yml`` reads these variables. A variable named ``DBT_ENV_SECRET_*`` is masked by dbt in everything it writes:
https://docs.getdbt.com/docs/build/environment-variables#handling-secrets.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from include.warehouse.connection import DuckDbConnection
from include.warehouse.exceptions import WarehouseConnectionInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.platform.settings import Settings
    from include.warehouse.connection import RedshiftConnection, WarehouseConnection

TARGET = "DBT_TARGET"
_INHERITED = frozenset(
    {
        *("PATH", "LD_LIBRARY_PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"),
        *("REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        "DO_NOT_TRACK",
        "DATA_PLATFORM_RUN_ID",  # by it the local supervisor finds its processes
    }
)
_INHERITED_PREFIXES = ("LC_", "AWS_", "SSL_CERT_")


def inherited_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What dbt needs of the task's environment, and no more: a managed Airflow keeps secrets of its own there, under names of its own."""
    return {
        name: value for name, value in environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


def dbt_variables(settings: Settings) -> dict[str, bool]:
    """What dbt is given as ``--vars``: only what differs from the project's own, for other variables make dbt parse everything anew."""
    return {} if settings.zero_etl_history_mode else {"history_mode": False}


def profile_environment(
    warehouse: WarehouseConnection, *, threads: int, scratch: Path, run_key: str, pin_anew: bool = False
) -> dict[str, str]:
    """The variables that ``profiles.yml`` reads.

    On DuckDB the replicated snapshot is pinned first, so that all models of the run, and a retry on this machine, read one checkpoint.

    Args:
        warehouse: where to build.
        threads: models that dbt builds at once.
        scratch: folder on the worker's own disk.
        run_key: names the run that the pin is for.
        pin_anew: read the source as it is now, though an earlier try of the run has pinned it; for a try that builds everything.

    Raises:
        WarehouseConnectionInvalid: the snapshot isn't there.
    """
    common = {
        "DBT_THREADS": str(threads),
        "DBT_BUILD_SCHEMA": warehouse.build_schema,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    if isinstance(warehouse, DuckDbConnection):
        return common | _duckdb(warehouse, scratch, run_key, pin_anew)
    return common | _redshift(warehouse)


def _duckdb(warehouse: DuckDbConnection, scratch: Path, run_key: str, pin_anew: bool) -> dict[str, str]:
    warehouse.path.parent.mkdir(parents=True, exist_ok=True)
    environment = {TARGET: "local", "DBT_DUCKDB_PATH": str(warehouse.path)}
    if len(warehouse.attach) > 1:
        raise WarehouseConnectionInvalid(
            f"expected at most one database in extra.attach, found {sorted(warehouse.attach)}; profiles.yml attaches one"
        )
    for name, snapshot in warehouse.attach.items():
        environment["DBT_SOURCE_DUCKDB_PATH"] = str(
            pin_snapshot(snapshot, scratch / "pins" / f"{name}.duckdb", run_key, anew=pin_anew)
        )
    return environment


def _redshift(warehouse: RedshiftConnection) -> dict[str, str]:
    environment = {
        TARGET: "redshift",
        "DBT_REDSHIFT_HOST": warehouse.host,
        "DBT_REDSHIFT_PORT": str(warehouse.port),
        "DBT_REDSHIFT_DATABASE": warehouse.database,
        "DBT_REDSHIFT_METHOD": _redshift_method(warehouse),
        "DBT_REDSHIFT_USER": warehouse.user or "",
        "DBT_REDSHIFT_REGION": warehouse.region or "",
        "DBT_REDSHIFT_CLUSTER_ID": warehouse.cluster or "",
        "DBT_REDSHIFT_WORKGROUP": warehouse.workgroup or "",
    }
    if not warehouse.iam:
        environment["DBT_ENV_SECRET_REDSHIFT_PASSWORD"] = warehouse.password or ""
    return environment


def _redshift_method(warehouse: RedshiftConnection) -> str:
    """``iam_role`` logs in as the task's own role; ``iam`` gets temporary credentials for a named user."""
    if not warehouse.iam:
        return "database"
    return "iam" if warehouse.user else "iam_role"


def pin_snapshot(snapshot: Path, pin: Path, run_key: str, *, anew: bool = False) -> Path:
    """Keep ``snapshot`` as it is now under the name ``pin`` until another run pins, or this one ``anew``.

    The replicator replaces its file by rename, so a hard link keeps the old content at no cost; on another disk it is copied. The name is
    the same for every run, because dbt parses everything anew when a path in its profile changes.

    Raises:
        WarehouseConnectionInvalid: there is no snapshot.
    """
    owner = pin.with_suffix(".run")
    if not anew and pin.exists() and owner.exists() and owner.read_text(encoding="utf-8") == run_key:
        return pin
    pin.parent.mkdir(parents=True, exist_ok=True)
    new = pin.with_suffix(".new")
    new.unlink(missing_ok=True)
    try:
        os.link(snapshot, new)
    except FileNotFoundError as error:
        raise WarehouseConnectionInvalid(
            f"expected the replicated snapshot at {snapshot}, found none; is the replicator running, and does extra.attach name its file?"
        ) from error
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(snapshot, new)
    owner.unlink(missing_ok=True)
    new.replace(pin)
    owner.write_text(run_key, encoding="utf-8")
    return pin
