"""Contracts in a folder of the test's own, and real Soda scans of real DuckDB files in the warehouse environment."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from include.platform.settings import load_settings

HERE = Path(__file__).parent
TRIAL = (HERE / "trial.odcs.yaml").read_text(encoding="utf-8")
SCHEMA = "build_shop_audit"


def line_of(text: str, needle: str) -> int:
    """The one line of ``text`` that contains ``needle``, from 1."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if needle in line]
    assert len(lines) == 1, f"{needle!r} stands in lines {lines}"
    return lines[0]


class Contracts:
    """A root of contracts."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, text: str = TRIAL, product: str = "orders", area: str = "shop") -> Path:
        folder = self.root / area / product
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "contract.odcs.yaml").write_text(text, encoding="utf-8")
        return folder / "contract.odcs.yaml"


@dataclass(frozen=True)
class Scanned:
    """How Soda ended one check."""

    outcome: str | None
    value: float | None
    columns: list[str]
    rows: list[list]


def soda_scans(folder: Path, jobs: list[tuple[Path, str, list]]) -> list[dict[str, Scanned]]:
    """Scan each ``(database, schema, checks)``, all in one process: Soda takes longer to start than to scan."""
    python = load_settings().warehouse_venv / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the warehouse environment has not been built: no {python}; run make setup")
    task = folder / "scans.json"
    task.write_text(
        json.dumps(
            [
                {
                    "path": str(path),
                    "schema": schema,
                    "checks": [{"relation": check.relation, "sodacl": check.sodacl} for check in checks],
                }
                for path, schema, checks in jobs
            ]
        )
    )
    done = subprocess.run(
        [str(python), str(HERE / "scan_with_soda.py"), str(task)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "SODA_CORE_TELEMETRY_ENABLED": "false", "HOME": str(folder)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        {key: Scanned(**result) for key, result in scan.items()} for scan in json.loads(done.stdout.splitlines()[-1])
    ]
