"""What travels to a cluster with a job, and what is refused before it is sent."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import version

import pytest
from packaging.utils import canonicalize_name

from include.spark.exceptions import JobNotPackable, JobUnknown
from include.spark.packages import job_names, package_job
from include.spark.stdlib import CLUSTER_STDLIB

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


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution of one module."""

    def install(metadata, source="", name="dist"):
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}\n")
        (info / "entry_points.txt").write_text(f"[{name}.words]\nword = {name}:WORD\n")
        (info / "INSTALLER").write_text("by hand")
        files = [
            f"{name}.py",
            *(f"{info.name}/{file}" for file in ("METADATA", "entry_points.txt", "INSTALLER", "RECORD")),
        ]
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        monkeypatch.syspath_prepend(str(site))

    return install


@pytest.fixture(scope="module")
def locked(project_root):
    """What Airflow's environment has in production."""
    text = (project_root / "locks" / "airflow.txt").read_text()
    return {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", text, re.MULTILINE)}


def unlocked(package, locked):
    return sorted(set(package.distributions) - locked)


def test_every_job_of_the_project_can_be_packaged_in_production_too(project_root, locked):
    assert "spark_pi" in job_names(project_root)
    for name in job_names(project_root):
        package = package_job(name)
        assert package.main.content == (project_root / "include" / "spark" / "jobs" / f"{name}.py").read_bytes()
        assert not unlocked(package, locked), f"{name}: DEPENDENCIES that only the laptop has"


def test_a_dependency_that_only_the_laptop_has_is_noticed(project, locked):
    package = package_job("job", project(job='DEPENDENCIES = ("sqlparse", "sortedcontainers")'))
    assert package.distributions == ("sortedcontainers", "sqlparse")
    assert unlocked(package, locked) == ["sortedcontainers"]


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
    package = package_job("job", project(job='DEPENDENCIES = ("SQLparse",)\nimport sqlparse'))
    assert "sqlparse/__init__.py" in names(package)
    assert not [name for name in names(package) if name.startswith("..")]
    info = f"sqlparse-{version('sqlparse')}.dist-info"
    assert [name for name in names(package) if "-info/" in name] == [f"{info}/METADATA", f"{info}/entry_points.txt"]


def test_a_distribution_knows_itself_on_the_cluster(project, installed, tmp_path):
    installed("Requires-Python: >=3.6", "WORD = 'from the zip'")
    root = project(
        job="""
            from importlib.metadata import entry_points, version
            import dist
            DEPENDENCIES = ("dist",)
            words = entry_points(group="dist.words")
            print(version("dist"), *(word.load() for word in words), dist.__file__)
        """
    )
    package = package_job("job", root)
    away = tmp_path / "cluster"
    away.mkdir()
    for file in package.files:
        (away / file.name).write_bytes(file.content)

    command = [sys.executable, "-S", "job.py"]  # -S: without what is installed here
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": "modules.zip"}
    done = subprocess.run(command, cwd=away, env=environ, capture_output=True, text=True)

    assert done.stdout.startswith("1.0 from the zip "), done.stderr
    assert "modules.zip" in done.stdout


@pytest.mark.parametrize(
    ("metadata", "source", "message"),
    [
        ("Requires-Python: >=3.10", "", r"expected dist to run on Python 3\.9, as on the clusters, found that 1\.0 needs >=3\.10"),
        (
            "Requires-Python: >=3.9",
            "match 1:\n    case 1: pass",
            r"DEPENDENCIES: dist: dist\.py:2: expected Python 3\.9, as on the clusters, found Pattern matching",
        ),
        ('Requires-Dist: tomli; python_version < "3.11"', "", r"dist needs tomli: declare it, too"),
        ('Requires-Dist: other; sys_platform == "linux"', "", r"dist needs other: declare it, too"),
    ],
)  # fmt: skip
def test_a_distribution_that_the_clusters_python_does_not_run_is_refused(project, installed, metadata, source, message):
    installed(metadata, source)
    with pytest.raises(JobNotPackable, match=message):
        package_job("job", project(job='DEPENDENCIES = ("dist",)'))


@pytest.mark.parametrize(
    "metadata",
    [
        "Requires-Python: >=3.8, !=3.9.0",
        'Requires-Dist: other; python_version >= "3.10"',
        'Requires-Dist: other; sys_platform == "win32"',
        'Requires-Dist: other; extra == "more"',
    ],
)
def test_a_distribution_that_the_clusters_python_runs_travels(project, installed, metadata):
    installed(metadata)
    assert "dist.py" in names(package_job("job", project(job='DEPENDENCIES = ("dist",)')))


def test_a_job_may_import_what_only_the_clusters_python_has(project):
    assert package_job("job", project(job="import distutils.version, asyncore, imp, zoneinfo, _thread")).modules is None


def test_the_clusters_standard_library_differs_from_this_ones_by_what_python_added_and_removed():
    here = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    windows = {"msilib", "msvcrt", "nt", "winreg", "winsound"}
    assert here - CLUSTER_STDLIB == {"tomllib"} | windows
    gone = "asynchat asyncore binhex distutils formatter imp parser smtpd symbol"
    assert CLUSTER_STDLIB - sys.stdlib_module_names == set(gone.split())


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
        (
            {"job": "import numpy"},
            r"job\.py:1 imports numpy: expected the standard library of Python 3\.9, PySpark .* or in IN_IMAGE",
        ),
        ({"job": "import tomllib"}, r"job\.py:1 imports tomllib: expected the standard library of Python 3\.9"),
        ({"job": 'DEPENDENCIES = ("tabulate",)'}, r"expected tabulate to run on Python 3\.9, .* needs >=3\.\d+;"),
        (
            {"job": 'DEPENDENCIES = ("no-such-dist",)'},
            r"job\.py: DEPENDENCIES: expected no-such-dist among .* found none",
        ),
        ({"job": 'DEPENDENCIES = ("pyyaml",)'}, r"expected pure Python, found yaml/_yaml\S*\.so in pyyaml"),
        ({"job": 'DEPENDENCIES = ("python-dateutil",)'}, r"DEPENDENCIES: python-dateutil needs six: declare it, too"),
        ({"job": 'DEPENDENCIES = "sqlparse"'}, r"job\.py:1: DEPENDENCIES: expected a tuple .* found 'sqlparse'"),
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
