"""What can be checked of the Astro project without Docker."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from include.local.environment import STAND_INS, lineage_transport
from include.local.layout import DEFAULT_PORTS
from include.platform.airflow_settings import load_airflow_settings
from include.platform.settings import load_settings

ASTRO_SERVICES = {"postgres", "scheduler", "dag-processor", "triggerer", "api-server"}
"""The services `astro dev start` itself runs on Airflow 3."""
OUR_OWN = {"data_platform", "include"}
IN_WAREHOUSE = {Path("include/quality/soda_runner.py")}
"""Files that tasks start in the warehouse environment, not in Airflow's."""
IN_ENGINE = Path("include/ingestion/ocsf")
"""The OCSF engine, a module that tasks start in the warehouse environment with the project's root on its path."""
IN_BOTH = {Path("include/ingestion/compaction.py"), Path("include/ingestion/reading.py")}
"""One part runs in a task, which imports no pyarrow, the other in the warehouse environment."""
ON_CLUSTERS = Path("include/spark/jobs")
"""Files that Spark runs; what they may import is tested where they are packaged."""


@pytest.fixture(scope="module")
def compose(project_root):
    return yaml.safe_load((project_root / "docker-compose.override.yml").read_text())


def dockerfiles(root):
    return [root / "Dockerfile", root / "include" / "local" / "Dockerfile"]


def test_the_image_is_airflow_3_3_on_python_3_12(project_root):
    first = re.search(r"^FROM (\S+)$", (project_root / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert re.search(r"runtime:3\.3-\d+-python-3\.12$", first)


def test_every_copy_source_exists_and_is_not_ignored(project_root):
    ignored = {line.rstrip("/") for line in (project_root / ".dockerignore").read_text().splitlines()}
    sources = [
        source
        for file in dockerfiles(project_root)
        for line in re.findall(r"^COPY (.+)$", file.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (project_root / source).exists(), source
        assert source.split("/")[0] not in ignored, source


def test_the_image_adds_to_airflow_what_only_the_stand_in_warehouse_needs(project_root):
    """Run as the image's build does: one package, pinned and hashed as on the laptop."""
    select, target = re.search(
        r"^RUN (awk .+) /tmp/locks/dev\.txt > (\S+)", (project_root / "Dockerfile").read_text(), re.MULTILINE
    ).groups()
    assert f"--require-hashes --no-deps -r {target}" in (project_root / "Dockerfile").read_text()
    lock = (project_root / "locks" / "dev.txt").read_text()

    told = subprocess.run(["sh", "-c", select], input=lock, capture_output=True, text=True, check=True).stdout

    assert re.findall(r"^[\w-]+==", told, re.MULTILINE) == ["duckdb=="]
    assert told.splitlines()[0] in lock.splitlines()
    assert told.count("--hash=sha256:") == len(told.splitlines()) - 1
    assert not told.rstrip().endswith("\\")


def test_the_stand_ins_image_has_a_java_of_its_distribution_that_spark_runs_on(project_root):
    """A wheel with one is not there for every processor; Debian's later releases have none of the line 17."""
    text = (project_root / "include" / "local" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.12-\S*bookworm$", text, re.MULTILINE)
    assert re.search(r"^RUN apt-get update && apt-get install .*openjdk-17-jre-headless", text, re.MULTILINE)
    assert "java.txt" not in text


def test_an_image_installs_nothing_without_a_hash_not_even_to_build_with(project_root):
    for file in dockerfiles(project_root):
        text = file.read_text()
        installs = re.findall(r"pip install .*", text)
        assert installs
        assert all("--require-hashes --no-deps" in install for install in installs), installs
        built = [install for install in installs if "locks/spark.txt" in install]
        assert all("--no-build-isolation" in install for install in built), built
        assert not built or text.index("-r locks/build.txt") < text.index("-r locks/spark.txt")


def test_a_deployed_image_lets_nobody_test_a_connection(project_root, compose):
    """Whoever may edit connections could have the server ask any host; `astro dev start` is on the laptop only."""
    assert "TEST_CONNECTION" not in (project_root / "Dockerfile").read_text()
    for name in ("scheduler", "dag-processor", "triggerer", "api-server"):
        assert compose["services"][name]["environment"]["AIRFLOW__CORE__TEST_CONNECTION"] == "Enabled"


def production_files(root):
    found = [
        path
        for room in ("dags", "include", "plugins")
        for path in (root / room).rglob("*.py")
        if not path.is_relative_to(root / "include" / "local")
    ]
    assert len(found) > 30
    return found


def imported(path):
    """Top-level names that a file imports, wherever in it, without Python's own."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def not_locked(names, distributions, lock):
    """Those of ``names`` that no distribution of the lock brings."""
    locked = {
        normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", lock.read_text(), re.MULTILINE)
    }
    return {name for name in names if not locked & {normal(found) for found in distributions.get(name, ["?"])}}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_production_code_imports_nothing_that_neither_mwaa_nor_the_image_has(project_root):
    files = [
        path
        for path in production_files(project_root)
        if (own := path.relative_to(project_root)) not in IN_WAREHOUSE | IN_BOTH
        and not own.is_relative_to(ON_CLUSTERS)
        and not own.is_relative_to(IN_ENGINE)
    ]
    names = (
        set().union(*map(imported, files), *(imported(project_root / path) - {"numpy", "pyarrow"} for path in IN_BOTH))
        - OUR_OWN
    )
    assert not_locked(names, packages_distributions(), project_root / "locks" / "airflow.txt") == {"duckdb"}


def test_what_runs_in_the_warehouse_environment_imports_only_what_that_has(project_root):
    """Started by its path with that environment's Python, which finds none of the project's own modules."""
    python = load_settings().warehouse_venv / "bin" / "python"
    ask = "import importlib.metadata, json; print(json.dumps(importlib.metadata.packages_distributions()))"
    told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    names = set().union(*(imported(project_root / path) for path in IN_WAREHOUSE))

    assert "soda" in names
    assert not names & OUR_OWN
    assert not_locked(names, json.loads(told), project_root / "locks" / "warehouse.txt") == set()


def test_the_engine_imports_only_what_the_warehouse_environment_has(project_root):
    python = load_settings().warehouse_venv / "bin" / "python"
    ask = "import importlib.metadata, json; print(json.dumps(importlib.metadata.packages_distributions()))"
    told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    files = [*(project_root / IN_ENGINE).glob("*.py"), *(project_root / path for path in IN_BOTH)]
    names = set().union(*map(imported, files)) - OUR_OWN

    assert {"duckdb", "ocsf_json_schema", "pyarrow"} <= names
    assert not_locked(names, json.loads(told), project_root / "locks" / "warehouse.txt") == set()


def test_every_host_of_a_connection_is_a_service(project_root, compose):
    services = ASTRO_SERVICES | set(compose["services"])
    text = str(load_airflow_settings(project_root / "airflow_settings.yaml").connections)
    hosts = set(re.findall(r"https?://([a-z-]+)", text))
    assert hosts
    assert hosts <= services


def test_the_platform_service_listens_where_the_connections_point(project_root, compose):
    published = {int(mapping.split(":")[-1]) for mapping in compose["services"]["platform"]["ports"]}
    text = str(load_airflow_settings(project_root / "airflow_settings.yaml").connections)
    pointed_at = {int(port) for port in re.findall(r"http://platform:(\d+)", text)}
    assert pointed_at == {DEFAULT_PORTS[name] for name in STAND_INS}
    # the application whose tenants are moved has clients, but no workflow is one
    assert published == pointed_at | {DEFAULT_PORTS["saas"]}


def test_ports_are_published_on_loopback_only(compose):
    assert all(mapping.startswith("127.0.0.1:") for mapping in compose["services"]["platform"]["ports"])


def test_every_service_that_runs_our_code_shares_the_stand_ins_state(compose):
    for name in ("platform", "scheduler", "dag-processor", "triggerer", "api-server"):
        assert "./.local:/usr/local/airflow/.local:rw" in compose["services"][name]["volumes"], name


def test_the_platform_service_calls_a_command_that_exists(compose):
    from include.local.__main__ import main

    command = compose["services"]["platform"]["command"]
    assert command[:3] == ["python", "-m", "include.local"]
    with pytest.raises(SystemExit) as caught:
        main([*command[3:], "--help"])
    assert caught.value.code == 0


def test_the_image_names_the_bucket_that_the_platform_service_makes(project_root):
    from include.local.environment import BUCKET

    assert f"AIRFLOW__DATA_PLATFORM__BUCKET={BUCKET}" in (project_root / "Dockerfile").read_text()


def test_the_image_sends_its_lineage_to_the_platform_service(project_root):
    from include.local.catalog.identity import DOMAIN_ID, PROJECT_ID

    text = (project_root / "Dockerfile").read_text()
    [option] = re.findall(r"AIRFLOW__OPENLINEAGE__TRANSPORT='(.+)'", text)
    catalog = f"http://platform:{DEFAULT_PORTS['catalog']}"
    assert json.loads(option) == lineage_transport("file:///usr/local/airflow/.local/lineage", catalog)
    assert f"AIRFLOW__DATA_PLATFORM__CATALOG_DOMAIN_ID={DOMAIN_ID} " in text
    assert f"AIRFLOW__DATA_PLATFORM__CATALOG_PROJECT_ID={PROJECT_ID} " in text
