"""What can be checked of the Astro project without Docker."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
import yaml

from include.local.layout import DEFAULT_PORTS
from include.platform.airflow_settings import load_airflow_settings

ASTRO_SERVICES = {"postgres", "scheduler", "dag-processor", "triggerer", "api-server"}
"""The services `astro dev start` itself runs on Airflow 3."""
OUR_OWN = {"data_platform", "include"}


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


def test_production_code_imports_nothing_that_neither_mwaa_nor_the_image_has(project_root):
    locked = {
        line.split("==")[0].replace("_", "-").lower()
        for line in (project_root / "locks" / "airflow.txt").read_text().splitlines()
        if "==" in line
    }
    distributions = packages_distributions()
    files = [
        path
        for room in ("dags", "include", "plugins")
        for path in (project_root / room).rglob("*.py")
        if not path.is_relative_to(project_root / "include" / "local")
    ]
    assert len(files) > 30
    missing = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OUR_OWN:
                if not locked & {name.replace("_", "-").lower() for name in distributions.get(top, ["?"])}:
                    missing.add(top)
    assert missing == {"duckdb"}


def test_every_host_of_a_connection_is_a_service(project_root, compose):
    services = ASTRO_SERVICES | set(compose["services"])
    text = str(load_airflow_settings(project_root / "airflow_settings.yaml").connections)
    hosts = set(re.findall(r"https?://([a-z-]+)", text))
    assert hosts
    assert hosts <= services


def test_the_platform_service_listens_where_the_connections_point(project_root, compose):
    published = {int(mapping.split(":")[-1]) for mapping in compose["services"]["platform"]["ports"]}
    assert published == {DEFAULT_PORTS["aws"], DEFAULT_PORTS["zero-etl"]}
    text = str(load_airflow_settings(project_root / "airflow_settings.yaml").connections)
    assert {int(port) for port in re.findall(r"http://platform:(\d+)", text)} == published


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
