"""Where the local platform keeps its state, and the ports it prefers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from include.platform.paths import PROJECT_ROOT

DEFAULT_PORTS = {
    "aws": 4566,
    "zero-etl": 4567,
    "catalog": 4568,
    "batch-gateway": 4569,
    "saas": 4570,
    "api-server": 8080,
}
"""The ports `airflow_settings.yaml` names; another free one is taken where these are in use."""

SAAS_ITEMS = 10_000
"""Items of each of the local SaaS's tenants, unless somebody asks for fewer."""


@dataclass(frozen=True)
class Layout:
    """Every path of the local platform, below one folder: ``.local/``, or ``DATA_PLATFORM_LOCAL_DIR`` for a second platform beside it."""

    root: Path = field(
        default_factory=lambda: Path(os.environ.get("DATA_PLATFORM_LOCAL_DIR") or PROJECT_ROOT / ".local")
    )

    @property
    def airflow_home(self) -> Path:
        """Airflow's own home: configuration, metadata database, task logs."""
        return self.root / "airflow"

    @property
    def aurora(self) -> Path:
        """The local Aurora's database."""
        return self.root / "aurora"

    @property
    def zero_etl(self) -> Path:
        """The replicator's state and its published snapshot."""
        return self.root / "zero_etl"

    @property
    def aws(self) -> Path:
        """The AWS stand-in's folder."""
        return self.root / "aws"

    @property
    def catalog(self) -> Path:
        """The catalog stand-in's assets, scores and lineage graph."""
        return self.root / "catalog"

    @property
    def spark(self) -> Path:
        """What the Spark clusters behind the gateway keep: applications, drivers' logs."""
        return self.root / "spark"

    @property
    def lineage(self) -> Path:
        """The lineage spool."""
        return self.root / "lineage"

    @property
    def warehouse(self) -> Path:
        """The local warehouse: ``work.duckdb`` and ``published/``."""
        return self.root / "warehouse"

    @property
    def published(self) -> Path:
        """Published, read-only versions of the data products."""
        return self.warehouse / "published"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def restarts(self) -> Path:
        """Requests to the supervisor: a file named after each part that is to be started again."""
        return self.root / "restarts"

    @property
    def state_file(self) -> Path:
        """What the supervisor runs; see `include.local.supervisor`."""
        return self.root / "state.json"

    @property
    def secrets_file(self) -> Path:
        """Generated keys and passwords, mode 600."""
        return self.root / "secrets.json"

    @property
    def warehouse_venv(self) -> Path:
        """The warehouse environment, which set-up builds beside the one this runs in."""
        return Path(sys.prefix).parent / "warehouse"

    @property
    def spark_venv(self) -> Path:
        """The Spark environment, as `warehouse_venv`; ``DATA_PLATFORM_SPARK_VENV`` names another."""
        return Path(os.environ.get("DATA_PLATFORM_SPARK_VENV") or Path(sys.prefix).parent / "spark")
