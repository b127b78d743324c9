"""What the code imports is asked for by name: what another package happens to bring, it may leave out tomorrow."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

LAPTOP = ("include/local", "bench", "tests")
PRODUCTION = ("dags", "include", "plugins")
OURS = {"bench", "dags", "data_platform", "include", "tests"}
NOT_HERE = {"pyspark": ["pyspark"], "soda": ["soda-core"]}
"""Imports whose distributions other environments have."""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for(project_root, *files):
    """Names in requirement files, normalised, and in the files that these name."""
    names = set()
    for file in files:
        text = (project_root / file).read_text()
        names |= {normal(name) for name in re.findall(r"^[A-Za-z0-9][A-Za-z0-9._-]*", text, re.MULTILINE)}
        names |= asked_for(project_root, *re.findall(r"^-r (\S+)", text, re.MULTILINE))
    return names


def imports(path):
    """Top-level names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        yield from (module.partition(".")[0] for module in modules)


def undeclared(files, declared):
    """Third-party imports, each with a file that has it, none of whose distributions is asked for."""
    known = {**packages_distributions(), **NOT_HERE}
    found = {name: path for path in files for name in imports(path)}
    foreign = found.keys() - sys.stdlib_module_names - OURS
    return {
        name: found[name].as_posix()
        for name in sorted(foreign)
        if not {normal(distribution) for distribution in known.get(name, [name])} & declared
    }


def sources(project_root, folders, without=()):
    files = [path for folder in folders for path in (project_root / folder).rglob("*.py")]
    return sorted(path for path in files if not any(path.is_relative_to(project_root / each) for each in without))


def in_image(path):
    """What a job's file says the clusters' images have, see `include.spark.packages`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "IN_IMAGE" for target in node.targets):
            yield from ast.literal_eval(node.value)


def test_what_production_imports_is_asked_for(project_root):
    jobs = sources(project_root, ["include/spark/jobs"])
    files = sources(project_root, PRODUCTION, without=["include/local", "include/spark/jobs"])
    assert len(files) > 100
    assert undeclared(files, asked_for(project_root, "requirements.txt", "requirements-warehouse.txt")) == {}
    assert jobs
    in_images = {normal(name) for path in jobs for name in in_image(path)}
    assert undeclared(jobs, asked_for(project_root, "requirements-spark.txt") | in_images) == {}


def test_plugins_and_dags_ask_for_nothing_of_the_warehouse_environment(project_root):
    files = sources(project_root, ["dags", "plugins"])
    assert undeclared(files, asked_for(project_root, "requirements.txt")) == {}


@pytest.mark.parametrize("folder", LAPTOP)
def test_what_the_laptop_imports_is_asked_for(project_root, folder):
    files = sources(project_root, [folder])
    assert files
    assert undeclared(files, asked_for(project_root, "requirements-dev.txt", "requirements-warehouse.txt")) == {}


def test_an_import_of_what_another_package_brings_is_noticed(tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        "import json, dags.some\nfrom airflow.sdk import dag\n\ndef late():\n    import yaml, no_such_module\n"
    )
    assert undeclared([source], {"apache-airflow-task-sdk"}) == {
        "no_such_module": source.as_posix(),
        "yaml": source.as_posix(),
    }
