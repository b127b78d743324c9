"""The package for MWAA: what is in it, and that Airflow sees the same in it as in the project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from include.local.mwaa import package as package_module
from include.local.mwaa.package import MOST_PLUGINS_BYTES, MWAA_HOME, PackageInvalid, build_package
from include.local.mwaa.wheels import normal

PROBE = Path(__file__).with_name("_tree_probe.py")


def seen(dags, plugins, tmp_path, *path):
    """What a clean process sees; nothing of this one's configuration reaches it."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
    environ |= {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # MWAA puts both folders on the path; PYTHONPATH itself is protected there.
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, str(PROBE), str(dags)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """plugins.zip as MWAA unpacks it."""
    folder = tmp_path_factory.mktemp("unpacked") / "plugins"
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def in_package(package, unpacked, tmp_path_factory):
    dags = package.folder / "dags"
    return seen(dags, unpacked, tmp_path_factory.mktemp("packaged"), dags, unpacked)


@pytest.fixture(scope="module")
def in_project(project_root, tmp_path_factory):
    plugins = project_root / "plugins"
    return seen(project_root / "dags", plugins, tmp_path_factory.mktemp("project"), project_root, plugins)


def test_it_holds_what_mwaa_takes(package):
    assert {path.name for path in package.folder.iterdir()} == {
        "dags",
        "plugins.zip",
        "requirements.txt",
        "startup.sh",
        "manifest.json",
    }


def test_it_carries_library_dbt_project_and_contracts(project_root, package):
    def below(root, *rooms):
        left = {"__pycache__", "target", "logs", "dbt_packages", ".user.yml"}
        return {
            str(path.relative_to(root))
            for room in rooms
            for path in (root / room).rglob("*")
            if path.is_file() and not set(path.parts) & left and not path.is_relative_to(root / "include" / "local")
        }

    dags = package.folder / "dags"
    assert below(dags, "include", "dbt_project") == below(project_root, "include", "dbt_project")
    assert len(list(dags.glob("include/data_products/*/*/contract.odcs.yaml"))) > 5
    assert (dags / "include" / "quality" / "soda_runner.py").exists()
    assert (dags / "airflow_settings.yaml").exists()


def test_it_carries_what_makes_the_gateways_client_a_provider(unpacked):
    """Beside the package, where Airflow finds it; what comes of it is tested with the client."""
    assert [path.name for path in unpacked.glob("*.dist-info/entry_points.txt")] == ["entry_points.txt"]
    assert (unpacked / "data_platform" / "batch_gateway" / "registration.py").exists()


def test_what_only_the_laptop_needs_stays_behind(package, unpacked):
    assert not (package.folder / "dags" / "include" / "local").exists()
    assert not list(package.folder.rglob("__pycache__"))
    assert not [path for path in unpacked.rglob("*") if "duckdb" in path.name]


def test_every_folder_of_the_dags_folder_is_dags_or_ignored(project_root, package):
    dags = package.folder / "dags"
    ignored = {line.rstrip("/") for line in (dags / ".airflowignore").read_text().splitlines()}
    folders = {path.name for path in dags.iterdir() if path.is_dir()}
    assert folders - ignored == {path.name for path in (project_root / "dags").iterdir() if path.is_dir()} - {
        "__pycache__"
    }
    assert ignored <= folders


def test_the_same_tree_gives_the_same_plugins_zip(project_root, tmp_path, package):
    again = build_package(project_root, tmp_path / "mwaa")
    assert again.manifest["sha256"] == package.manifest["sha256"]


def test_sizes_and_times_are_told(package):
    told = json.loads((package.folder / "manifest.json").read_text())
    assert told == package.manifest
    for name in ("plugins.zip", "requirements.txt", "startup.sh"):
        assert told["bytes"][name] == (package.folder / name).stat().st_size
    assert 0 < told["seconds"]["wheels"] <= told["seconds"]["total"]
    text = package.describe()
    assert f"{told['bytes']['total'] / 1e6:.1f} MB in {told['seconds']['total']:.1f} s" in text
    assert all(
        re.search(rf"^  {re.escape(name)} +[\d.]+ kB", text, re.MULTILINE)
        for name in ("dags/", "plugins.zip", "startup.sh")
    )


def test_it_stays_far_below_what_mwaa_takes(package):
    assert package.manifest["bytes"]["plugins.zip"] < MOST_PLUGINS_BYTES / 4


def test_a_package_that_mwaa_would_not_take_is_refused(project_root, tmp_path, package, monkeypatch):
    monkeypatch.setattr(package_module, "MOST_PLUGINS_BYTES", 1000)
    with pytest.raises(
        PackageInvalid, match=r"plugins\.zip: expected at most 1000 bytes, which MWAA takes, found \d{8,}"
    ):
        build_package(project_root, tmp_path / "mwaa")


def test_requirements_begin_with_a_constraint_and_name_no_address(package, project_root):
    lines = (package.folder / "requirements.txt").read_text().splitlines()
    assert lines[0] == f"--constraint {MWAA_HOME}/plugins/wheels/airflow/constraints.txt"
    assert lines[1:3] == ["--no-index", f"--find-links {MWAA_HOME}/plugins/wheels/airflow"]
    assert not [line for line in lines if "://" in line]
    wanted = [line for line in (project_root / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines[3:] == wanted


def test_requirements_resolve_from_plugins_zip_alone(package, unpacked, project_root, tmp_path):
    """For an environment that has nothing yet; MWAA's image has most of it."""
    requirements = tmp_path / "requirements.txt"
    text = (package.folder / "requirements.txt").read_text()
    requirements.write_text(text.replace(f"{MWAA_HOME}/plugins", str(unpacked)))
    uv = project_root / ".local" / "bootstrap" / "bin" / "uv"
    subprocess.run(
        [uv, "venv", "--quiet", "--offline", "--python", sys._base_executable, tmp_path / "venv"], check=True
    )
    done = subprocess.run(
        [
            uv,
            "pip",
            "install",
            "--no-config",
            "--offline",
            "--dry-run",
            "--python",
            tmp_path / "venv",
            "-r",
            requirements,
        ],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    would = dict(re.findall(r"^ \+ ([^=\s]+)==(\S+)", done.stderr, re.MULTILINE))
    constraints = dict(
        line.split("==") for line in (unpacked / "wheels/airflow/constraints.txt").read_text().splitlines()
    )
    assert {normal(name): version for name, version in would.items()}.items() <= constraints.items()
    assert {"apache-airflow", "astronomer-cosmos", "open-data-contract-standard"} <= set(would)


def test_airflow_sees_the_same_dags_plugins_and_triggers(in_package, in_project):
    assert in_package["dag_errors"] == in_package["plugin_errors"] == {}
    own = ("library", "plugins_from")
    assert {key: in_package[key] for key in in_package if key not in own} == {
        key: in_project[key] for key in in_project if key not in own
    }


def test_airflow_sees_every_dag_file_and_what_the_project_is_known_for(in_package, project_root):
    """Else the comparison above would pass on two empty trees."""
    assert sorted(in_package["dags"]) == sorted(path.stem for path in (project_root / "dags").rglob("*.py"))
    assert all(dag["tasks"] for dag in in_package["dags"].values())
    assert {"dbt_docs", "tenant_migrations", "batch_gateway_provider"} <= set(in_package["plugins"])
    assert "dbt docs at /dbt-docs" in in_package["apps"]
    assert "dbt docs at /dbt-docs/index.html" in in_package["views"]
    assert [trigger for trigger in in_package["triggers"] if trigger.startswith("data_platform.zero_etl.triggers.")]
    assert [watcher for dag in in_package["dags"].values() for watcher in dag["watchers"]]


def test_the_package_uses_nothing_of_the_project(in_package, package, unpacked):
    assert in_package["library"].startswith(str(package.folder / "dags"))
    assert in_package["plugins_from"].startswith(str(unpacked))


def installed():
    return {normal(each.metadata["Name"]): each.version for each in distributions()}


def pins(text):
    return {normal(name): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)}


@pytest.mark.parametrize("file", ["constraints", "essential"])
def test_what_parsed_it_has_the_versions_of_mwaas_image(file):
    """The two trees were parsed with these very distributions."""
    place = os.environ.get("MWAA_CONSTRAINTS")
    if not place or "://" in place:
        pytest.skip("MWAA_CONSTRAINTS names no file with the constraints of MWAA's 3.3.1 image")
    path = Path(place)
    if file == "essential":
        path = path.with_name(re.sub(r"^constraints-([\d.]+)-py.*", r"essential-\1.txt", path.name))
        if not path.exists():
            pytest.skip(f"there is no {path.name} beside {place}")
    allowed = pins(path.read_text())
    have = installed()
    both = allowed.keys() & have.keys()
    assert len(both) > {"constraints": 100, "essential": 5}[file]
    assert {name: have[name] for name in both if have[name] != allowed[name]} == {}
