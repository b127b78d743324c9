"""What travels to a cluster with a job, and what is refused before it is sent."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import zipfile

import pytest

from include.spark.exceptions import JobNotPackable, JobUnknown
from include.spark.packages import job_names, package_job

LIBRARY = {
    "include/__init__.py": "",
    "include/spark/__init__.py": "",
    "include/spark/jobs/__init__.py": "",
    "include/spark/jobs/shared/__init__.py": "",
}


@pytest.fixture
def project(tmp_path):
    """Write a project; gives its root."""

    def write(**jobs):
        files = LIBRARY | {f"include/spark/jobs/{name.replace('__', '/')}.py": text for name, text in jobs.items()}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path

    return write


def names(package):
    with zipfile.ZipFile(io.BytesIO(package.modules.content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_every_job_of_the_project_can_be_packaged(project_root):
    assert "spark_pi" in job_names(project_root)
    for name in job_names(project_root):
        package = package_job(name)
        assert package.main.content == (project_root / "include" / "spark" / "jobs" / f"{name}.py").read_bytes()


def test_a_jobs_imports_travel_with_it_and_nothing_else(project):
    root = project(
        job="from include.spark.jobs.shared.used import work\nimport json",
        shared__used="import include.spark.jobs.shared.deeper as deeper",
        shared__deeper="from . import deepest",
        shared__deepest="",
        shared__unused="",
        other_job="",
    )

    package = package_job("job", root)

    below = [name.removeprefix("include/spark/jobs/shared/") for name in names(package) if "shared/" in name]
    assert below == ["__init__.py", "deeper.py", "deepest.py", "used.py"]
    assert "include/spark/jobs/job.py" not in names(package)


def test_a_job_that_imports_nothing_has_no_modules(project):
    package = package_job("job", project(job="import random"))
    assert package.modules is None
    assert [file.name for file in package.files] == ["job.py"]


def test_the_modules_can_be_imported_from_the_zip_alone(project, tmp_path):
    root = project(
        job="from include.spark.jobs.shared.used import WORD\nprint(WORD)",
        shared__used="from .deeper import WORD",
        shared__deeper="WORD = 'from the zip'",
    )
    package = package_job("job", root)
    away = tmp_path / "cluster"
    away.mkdir()
    for file in package.files:
        (away / file.name).write_bytes(file.content)

    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "job.py"],
        cwd=away,
        env=environ | {"PYTHONPATH": "modules.zip"},
        capture_output=True,
        text=True,
    )

    assert done.stdout == "from the zip\n", done.stderr


def test_the_same_sources_give_the_same_digest_on_every_machine(project, monkeypatch):
    sources = {"job": "from include.spark.jobs.shared import used", "shared__used": "A = 1"}
    first = package_job("job", project(**sources))
    for path in project(**sources).rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755 if path.is_dir() else 0o600)
    again = package_job("job", project(**sources))

    assert again == first
    assert again.digest == first.digest


@pytest.mark.parametrize("changed", [{"job": "A = 2"}, {"shared__used": "A = 2"}])
def test_another_source_gives_another_digest(project, changed):
    sources = {"job": "from include.spark.jobs.shared import used", "shared__used": "A = 1"}
    first = package_job("job", project(**sources)).digest
    assert package_job("job", project(**sources | changed)).digest != first


def test_a_declared_distribution_travels_too(project):
    package = package_job("job", project(job='DEPENDENCIES = ("Tabulate",)\nimport tabulate'))
    assert [name for name in names(package) if name.endswith("tabulate/__init__.py") or name == "tabulate.py"]
    assert not [name for name in names(package) if "dist-info" in name or name.startswith("..")]


def test_what_the_image_has_need_not_travel(project):
    package = package_job("job", project(job='IN_IMAGE = ("numpy",)\nimport numpy.linalg\nfrom pyspark.sql import Row'))
    assert package.modules is None


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            {"job": "import os\nfrom include.platform import settings"},
            r"include/spark/jobs/job\.py:2 imports include\.platform: expected nothing of the project but include\.spark\.jobs, as a "
            r"cluster has neither Airflow nor this library",
        ),
        (
            {"job": "def f():\n    import airflow.sdk"},
            r"job\.py:2 imports airflow\.sdk: expected nothing of the project",
        ),
        (
            {"job": "import include.spark.jobs.shared.used", "shared__used": "import data_platform.connections"},
            r"include/spark/jobs/shared/used\.py:1 imports data_platform\.connections",
        ),
        (
            {"job": "from include.spark.jobs.missing import x"},
            r"job\.py:1 imports include\.spark\.jobs\.missing: expected include/spark/jobs/missing\.py, found none",
        ),
        ({"job": "from .shared import used", "shared__used": ""}, r"job\.py:1: expected absolute imports"),
        (
            {"job": "match 1:\n    case 1: pass"},
            r"job\.py:2: expected Python 3\.9, as on the clusters, found Pattern matching",
        ),
        ({"job": "import numpy"}, r"job\.py:1 imports numpy: expected the standard library, PySpark .* or in IN_IMAGE"),
        (
            {"job": 'DEPENDENCIES = ("no-such-dist",)'},
            r"job\.py: DEPENDENCIES: expected no-such-dist among .* found none",
        ),
        ({"job": 'DEPENDENCIES = ("pyyaml",)'}, r"expected pure Python, found yaml/_yaml\S*\.so in pyyaml"),
        ({"job": 'DEPENDENCIES = ("python-dateutil",)'}, r"DEPENDENCIES: python-dateutil needs six: declare it, too"),
        ({"job": 'DEPENDENCIES = "tabulate"'}, r"job\.py:1: DEPENDENCIES: expected a tuple .* found 'tabulate'"),
        ({"job": "DEPENDENCIES = (find(),)"}, r"DEPENDENCIES: expected a tuple .* found \(find\(\),\)"),
    ],
)
def test_what_can_not_travel_is_refused_with_its_place(project, sources, message):
    with pytest.raises(JobNotPackable, match=message):
        package_job("job", project(**sources))


def test_an_unknown_job_is_refused_with_those_that_there_are(project):
    with pytest.raises(JobUnknown, match=re.escape("job 'pi': expected one of first, second in include/spark/jobs")):
        package_job("pi", project(first="", second="", shared__not_a_job=""))


def test_a_job_outside_the_folder_is_refused(project):
    with pytest.raises(JobUnknown, match="expected one of job"):
        package_job("../__init__", project(job=""))
