"""What production's environments hold, and how their wheels are had."""

from __future__ import annotations

import re
import sys
import zipfile
from email.parser import HeaderParser

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from include.local.mwaa.wheels import (
    LAPTOP_ONLY,
    WheelsUnavailable,
    airflow_lock,
    fetch,
    normal,
    pip_command,
    read_lock,
    warehouse_lock,
)

PIN = """six==1.17.0 \\
    --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000
"""


def roots(file):
    return {
        normal(re.match(r"[A-Za-z0-9._-]+", line)[0])
        for line in file.read_text().splitlines()
        if line and not line.startswith(("#", "-"))
    }


def metadata_of_wheels(package, environment):
    """Name to what each wheel says that it needs, read from the wheels of plugins.zip."""
    found = {}
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        for name in archive.namelist():
            if name.startswith(f"wheels/{environment}/") and name.endswith(".whl"):
                with archive.open(name) as file, zipfile.ZipFile(file) as wheel:
                    # nested dist-info folders belong to what a wheel has vendored
                    [path] = [entry for entry in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", entry)]
                    message = HeaderParser().parsestr(wheel.read(path).decode())
                found[normal(message["Name"])] = [Requirement(text) for text in message.get_all("Requires-Dist") or ()]
    return found


def needed(metadata, wanted):
    """Everything that ``wanted`` (name, extras) needs on MWAA, and requirements nobody meets."""
    mwaa = {**default_environment(), "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    mwaa |= {"python_version": "3.12", "python_full_version": "3.12.10", "platform_python_implementation": "CPython"}
    seen, open_, missing = set(), [(name, "") for name in wanted], set()
    while open_:
        name, extra = open_.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in metadata:
            missing.add(name)
            continue
        for requirement in metadata[name]:
            if requirement.marker is None or requirement.marker.evaluate({**mwaa, "extra": extra}):
                open_ += [(normal(requirement.name), each) for each in ("", *requirement.extras)]
    return {name for name, _ in seen}, missing


def test_the_production_lock_is_the_laptops_without_the_stand_in_warehouse(project_root):
    laptop = read_lock(project_root / "locks" / "warehouse.txt")
    production = warehouse_lock(project_root)

    assert laptop.entries.keys() - production.entries.keys() == LAPTOP_ONLY
    assert production.entries.items() <= laptop.entries.items()
    assert production.text.count("--hash=sha256:") > len(production.entries)
    assert roots(project_root / "requirements-warehouse.txt") >= LAPTOP_ONLY


def test_the_production_warehouse_needs_exactly_what_it_has(project_root, package):
    wanted = roots(project_root / "requirements-warehouse.txt") - LAPTOP_ONLY
    needs, missing = needed(metadata_of_wheels(package, "warehouse"), wanted)
    assert missing == set()
    assert needs == set(warehouse_lock(project_root).entries)


def test_the_airflow_environment_is_whole_without_what_the_image_has(project_root, package):
    """A private web server can't fetch what an image of another patch level should lack."""
    needs, missing = needed(metadata_of_wheels(package, "airflow"), roots(project_root / "requirements.txt"))
    assert missing == set()
    assert needs <= set(airflow_lock(project_root).entries)


def test_there_is_one_wheel_for_each_pin_and_it_runs_on_mwaa(project_root, package):
    with zipfile.ZipFile(package.folder / "plugins.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".whl")]
    for lock in (airflow_lock(project_root), warehouse_lock(project_root)):
        wheels = [name.rpartition("/")[2] for name in names if name.startswith(f"wheels/{lock.name}/")]
        assert {(normal(name.split("-")[0]), name.split("-")[1]) for name in wheels} == set(lock.pins.items())
        assert all(re.search(r"-(any|\S*manylinux\S*x86_64)\.whl$", name) for name in wheels)


def test_the_constraints_carry_neither_hash_nor_address(project_root):
    text = airflow_lock(project_root).constraints
    assert "--hash" not in text
    assert "://" not in text
    assert "apache-airflow==3.3.1" in text.splitlines()


def test_a_name_to_leave_out_that_is_not_there_is_told(tmp_path):
    lock = tmp_path / "warehouse.txt"
    lock.write_text(PIN)
    with pytest.raises(WheelsUnavailable, match=r"warehouse\.txt: expected pins of duckdb, found none"):
        read_lock(lock, without=frozenset({"duckdb"}))


def test_a_line_that_is_no_pin_is_told(tmp_path):
    lock = tmp_path / "warehouse.txt"
    lock.write_text("six>=1\n")
    with pytest.raises(WheelsUnavailable, match=r"expected name==version, found 'six>=1'; run `make lock`"):
        read_lock(lock)


def test_wheels_that_the_index_does_not_give_leave_nothing_behind_and_are_told(tmp_path):
    """No index at all: what pip says is passed on, and the next try starts afresh."""
    (tmp_path / "small.txt").write_text(PIN)
    lock = read_lock(tmp_path / "small.txt")

    def pip_without_index():
        command = pip_command()
        # pip's own options may stand before its command
        return [*command, "--isolated", "--no-input", "--retries", "0", "--proxy", "http://127.0.0.1:9"]

    with pytest.raises(
        WheelsUnavailable, match=r"of every pin of the small environment, but pip failed: .+ Is the index reachable"
    ):
        fetch(lock, tmp_path / "cache", pip_without_index)
    assert not [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")]


def test_wheels_are_downloaded_once(tmp_path, project_root, package):
    """The package's fixture has downloaded them; now no pip is asked for."""

    def no_pip():
        raise AssertionError("pip was asked for")

    cache = project_root / ".local" / "wheels"
    assert (
        len(list(fetch(warehouse_lock(project_root), cache, no_pip).iterdir()))
        == package.manifest["wheels"]["warehouse"]["wheels"]
    )


def test_a_machine_without_pip_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "no-python"))
    with pytest.raises(WheelsUnavailable, match=r"expected pip beside one of .+, found none; install python3-pip"):
        pip_command(tmp_path)
