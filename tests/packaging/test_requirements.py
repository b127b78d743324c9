"""The locks, the requirements files and MWAA's constraints say the same."""

from __future__ import annotations

import os
import re
import urllib.request
from pathlib import Path

import pytest

LOCKS = ("airflow", "dev", "warehouse", "spark", "java", "build", "uv")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text):
    return {normal(name): version for name, version in PIN.findall(text)}


@pytest.fixture(scope="module")
def locks(project_root):
    return {name: (project_root / "locks" / f"{name}.txt").read_text() for name in LOCKS}


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_of_a_lock_carries_hashes_and_no_address(locks, name):
    entries = re.split(r"\n(?=[A-Za-z0-9])", locks[name].strip())
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries), name
    assert "://" not in locks[name]


def test_the_requirements_of_every_image_equal_the_lock(project_root, locks):
    wanted = pins((project_root / "requirements.txt").read_text())
    assert wanted
    assert wanted.items() <= pins(locks["airflow"]).items()
    for name in ("warehouse", "spark", "java"):
        wanted = pins((project_root / f"requirements-{name}.txt").read_text())
        assert wanted
        assert wanted.items() <= pins(locks[name]).items()


def test_what_the_laptop_pins_is_what_it_gets(project_root, locks):
    wanted = pins((project_root / "requirements-dev.txt").read_text())
    assert wanted
    assert wanted.items() <= pins(locks["dev"]).items()


def test_the_laptop_runs_exactly_what_production_runs(locks):
    assert pins(locks["airflow"]).items() <= pins(locks["dev"]).items()


def test_the_root_requirements_carry_no_constraint_line(project_root):
    assert "--constraint" not in (project_root / "requirements.txt").read_text()


def test_every_pin_lies_inside_mwaas_constraints(locks):
    place = os.environ.get("MWAA_CONSTRAINTS")
    if not place:
        pytest.skip("MWAA_CONSTRAINTS names no file or URL with the constraints of MWAA's 3.3.1 image")
    text = urllib.request.urlopen(place).read().decode() if "://" in place else Path(place).read_text()
    allowed = pins(text)
    assert len(allowed) > 100, f"{place} does not look like a constraints file"
    for name in ("airflow", "dev"):
        different = {k: (v, allowed[k]) for k, v in pins(locks[name]).items() if k in allowed and allowed[k] != v}
        assert not different, f"locks/{name}.txt against the constraints: {different}"
