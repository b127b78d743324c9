"""The package for MWAA: what is in it, and that Airflow reads it without the rest of the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

from include.local.package_mwaa import build_package

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1])
import include
print(json.dumps({"dags": sorted(bag.dag_ids), "errors": bag.import_errors, "include": include.__file__}))
"""


@pytest.fixture(scope="module")
def package(project_root, tmp_path_factory):
    return build_package(project_root, tmp_path_factory.mktemp("dist") / "mwaa")


def test_it_holds_what_mwaa_takes(package):
    assert {path.name for path in package.folder.iterdir()} == {"dags", "plugins.zip", "requirements.txt", "startup.sh"}
    assert (package.folder / "requirements.txt").read_text().startswith("--constraint ")


def test_the_stand_ins_stay_behind(package):
    assert not (package.folder / "dags" / "include" / "local").exists()
    assert not list(package.folder.rglob("__pycache__"))


def test_the_startup_script_is_valid_shell(package):
    subprocess.run(["sh", "-n", str(package.folder / "startup.sh")], check=True)


def test_the_same_tree_gives_the_same_plugins_zip(project_root, tmp_path, package):
    again = build_package(project_root, tmp_path / "mwaa")
    assert (again.folder / "plugins.zip").read_bytes() == (package.folder / "plugins.zip").read_bytes()


def test_airflow_sees_the_same_dags_in_the_package_alone(package, project_root, tmp_path):
    plugins = tmp_path / "plugins"
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        archive.extractall(plugins)
    dags = package.folder / "dags"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
    environ |= {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # MWAA puts both folders on the path; PYTHONPATH itself is protected there.
        "PYTHONPATH": os.pathsep.join([str(dags), str(plugins)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(dags)], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen["errors"] == {}
    assert seen["include"].startswith(str(dags))
    assert seen["dags"] == sorted(path.stem for path in (project_root / "dags").rglob("*.py"))
