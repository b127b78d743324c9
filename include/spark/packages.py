"""Package a job: its main file, and a zip of what it imports from the project and of the distributions it declares.

What to take along is read from the source, so nobody keeps a list: imports below ``include.spark.jobs`` are followed, file by file. A
distribution from PyPI is declared, as ``DEPENDENCIES = ("sqlparse",)`` in the file that imports it; it is taken from this environment,
whose versions are locked, with its metadata, and must be pure Python. What the clusters' images have beside PySpark is declared by import
name, as ``IN_IMAGE = ("numpy",)``. Any other import is refused here, before a cluster meets it.

The clusters' Python is older than this one. Held to it are: the grammar of all sources that travel, by this Python's parser; the modules of
the standard library; what distributions say of themselves. Two things are not, and only a run shows them: f-strings as only 3.12 reads them
(the same quotes inside and out, backslashes), which the parser lets pass for any version, and what exists within a module since later
versions only, such as ``itertools.pairwise``.

The same sources give the same bytes on every machine, so the digest over them names the package.
"""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from include.platform.paths import PROJECT_ROOT
from include.spark.exceptions import JobNotPackable, JobUnknown
from include.spark.stdlib import CLUSTER_STDLIB

if TYPE_CHECKING:
    from collections.abc import Iterator

JOBS: Final = "include.spark.jobs"
TRAVELS: Final = ("include.ingestion.reading",)
"""Of the rest of this library: modules that keep to the clusters' Python and to what they have, so that a job may import them."""
CLUSTER_PYTHON: Final = (3, 9)
"""Python of EMR's images for Spark 3.5."""
CLUSTER: Final = {
    "python_version": "3.9",
    "python_full_version": "3.9.16",  # as in Amazon Linux 2023
    "implementation_name": "cpython",
    "implementation_version": "3.9.16",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
"""What the markers of a distribution's requirements are judged by, whatever runs this."""
MODULES_FILE: Final = "modules.zip"

_NOT_THERE: Final = ("include", "data_platform", "dags", "tests", "bench", "airflow")
_WITH_SPARK: Final = ("pyspark", "py4j")
_METADATA: Final = ("METADATA", "entry_points.txt")
"""Of what an installer keeps of a distribution: what ``importlib.metadata`` reads. The rest differs from machine to machine."""
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll")
_DATE: Final = (2024, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class JobFile:
    """One file of a package.

    Attributes:
        name: its last path segment.
        content: its bytes.
        content_type: for HTTP.
    """

    name: str
    content: bytes = field(repr=False)
    content_type: str

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class JobPackage:
    """A job, ready to be placed.

    Attributes:
        job: its name.
        main: the file that Spark runs.
        modules: the zip for ``deps.pyFiles``; None if the job needs none.
        distributions: normalised names of what the zip has from PyPI.
    """

    job: str
    main: JobFile
    modules: JobFile | None
    distributions: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[JobFile, ...]:
        """The main file, then the modules."""
        return (self.main,) if self.modules is None else (self.main, self.modules)

    @property
    def digest(self) -> str:
        """Over all files, in hex: other files, another digest."""
        return hashlib.sha256("".join(f"{file.name}:{file.sha256}\n" for file in self.files).encode()).hexdigest()


def job_names(root: Path = PROJECT_ROOT) -> list[str]:
    """Names of the jobs there are."""
    return sorted(path.stem for path in _jobs_folder(root).glob("*.py") if path.stem != "__init__")


def package_job(job: str, root: Path = PROJECT_ROOT) -> JobPackage:
    """Package the job ``include/spark/jobs/<job>.py``.

    Raises:
        JobUnknown: there is no such file.
        JobNotPackable: it needs what can't be taken along; the message names file and import.
    """
    if job not in job_names(root):
        raise JobUnknown(
            f"job {job!r}: expected one of {', '.join(job_names(root)) or '(no jobs)'} in {JOBS.replace('.', '/')}"
        )
    main = _jobs_folder(root) / f"{job}.py"
    modules = _Modules(root)
    modules.follow(main, "__main__")
    content = _zip(modules.contents())
    return JobPackage(
        job,
        JobFile(main.name, main.read_bytes(), "text/x-python"),
        JobFile(MODULES_FILE, content, "application/zip") if content else None,
        tuple(sorted(modules.declared)),
    )


def _jobs_folder(root: Path) -> Path:
    return root.joinpath(*JOBS.split("."))


class _Modules:
    """Everything but the main file that a job needs, found by following imports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Path] = {}
        self.declared: dict[str, str] = {}
        self.in_image = {*_WITH_SPARK, *CLUSTER_STDLIB}
        self.foreign: dict[str, str] = {}

    def follow(self, path: Path, module: str) -> None:
        """Add what a file imports."""
        where = path.relative_to(self.root).as_posix()
        tree = _parse(path.read_bytes(), where)
        for name in _declared(tree, where, "DEPENDENCIES"):
            self.declared.setdefault(canonicalize_name(name), where)
        self.in_image.update(_declared(tree, where, "IN_IMAGE"))
        for imported, line, certain in _imports(tree, module, path.name == "__init__.py", where):
            top = imported.partition(".")[0]
            if any(imported == one or imported.startswith(f"{one}.") for one in (JOBS, *TRAVELS)):
                self._add(imported, f"{where}:{line}", certain)
            elif top in _NOT_THERE:
                raise JobNotPackable(
                    f"{where}:{line} imports {imported}: expected nothing of the project but {JOBS}, as a cluster has neither Airflow nor "
                    "this library; move what the job needs there"
                )
            else:
                self.foreign.setdefault(top, f"{where}:{line}")

    def contents(self) -> dict[str, bytes]:
        """Path in the zip, and bytes, of every file."""
        found = {path.relative_to(self.root).as_posix(): path.read_bytes() for path in self.files.values()}
        for name in sorted(self.declared):
            found |= self._distribution(name)
        carried = {Path(name).parts[0].removesuffix(".py") for name in found}
        for top, where in self.foreign.items():
            if top not in self.in_image | carried:
                raise JobNotPackable(
                    f"{where} imports {top}: expected the standard library of Python {CLUSTER['python_version']}, PySpark or {JOBS}; "
                    "declare its distribution in DEPENDENCIES, or in IN_IMAGE if the clusters' images have it"
                )
        return found

    def _add(self, imported: str, where: str, certain: bool) -> None:
        """The module's file and its packages'. Unless it is certain, the last part may be something in a module."""
        parts = imported.split(".")
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if module in self.files:
                continue
            base = self.root.joinpath(*parts[:length])
            path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            if path.is_file():
                self.files[module] = path
                self.follow(path, module)
            elif certain or length < len(parts):
                raise JobNotPackable(f"{where} imports {imported}: expected {path.relative_to(self.root)}, found none")

    def _distribution(self, name: str) -> dict[str, bytes]:
        where = f"{self.declared[name]}: DEPENDENCIES"
        try:
            found = distribution(name)
        except PackageNotFoundError:
            raise JobNotPackable(
                f"{where}: expected {name} among the distributions of Airflow's environment, found none; add it to requirements.txt, or "
                "let the cluster's image have it"
            ) from None
        pythons = found.metadata.get("Requires-Python", "")
        if CLUSTER["python_full_version"] not in SpecifierSet(pythons):
            raise JobNotPackable(
                f"{where}: expected {name} to run on Python {CLUSTER['python_version']}, as on the clusters, found that "
                f"{found.version} needs {pythons}; let the cluster's image have an older one, and name it in IN_IMAGE"
            )
        for requirement in _requirements(found):
            if requirement not in self.declared:
                raise JobNotPackable(f"{where}: {name} needs {requirement}: declare it, too")
        contents = {}
        for file in found.files or ():
            if ".." in file.parts or "__pycache__" in file.parts or _stays(file):
                continue
            if file.suffix in _COMPILED:
                raise JobNotPackable(
                    f"{where}: expected pure Python, found {file} in {name}; clusters may have other processors: let their image have it"
                )
            content = contents[file.as_posix()] = Path(str(found.locate_file(file))).read_bytes()
            if file.suffix == ".py":
                _parse(content, f"{where}: {name}: {file}")
        return contents


def _stays(file: PurePath) -> bool:
    """Whether it is among what an installer keeps of a distribution, and of no use elsewhere."""
    return file.parts[0].endswith((".dist-info", ".egg-info")) and file.parts[1:] not in [(name,) for name in _METADATA]


def _parse(source: bytes, where: str) -> ast.Module:
    try:
        return ast.parse(source, feature_version=CLUSTER_PYTHON)
    except SyntaxError as error:
        raise JobNotPackable(
            f"{where}:{error.lineno}: expected Python {CLUSTER['python_version']}, as on the clusters, found {error.msg}"
        ) from error


def _imports(tree: ast.Module, module: str, is_package: bool, where: str) -> Iterator[tuple[str, int, bool]]:
    """Absolute name and line of all that is imported, and whether it is a module: of ``from a import b``, ``a`` is, ``a.b`` may be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                if module == "__main__":
                    raise JobNotPackable(
                        f"{where}:{node.lineno}: expected absolute imports, as Spark runs this file alone; write from {JOBS}… import …"
                    )
                package = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
                base = ".".join([*package, *([base] if base else [])])
            yield base, node.lineno, True
            yield from ((f"{base}.{alias.name}", node.lineno, False) for alias in node.names if alias.name != "*")


def _declared(tree: ast.Module, where: str, constant: str) -> tuple[str, ...]:
    """``DEPENDENCIES`` or ``IN_IMAGE`` of a file."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == constant for t in node.targets):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                value = None
            if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
                raise JobNotPackable(
                    f'{where}:{node.lineno}: {constant}: expected a tuple of names such as ("sqlparse",), found {ast.unparse(node.value)}'
                )
            return value
    return ()


def _requirements(found: Distribution) -> Iterator[str]:
    """What a distribution needs on the clusters, without extras."""
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({**CLUSTER, "extra": ""}):
            yield canonicalize_name(requirement.name)


def _zip(contents: dict[str, bytes]) -> bytes:
    """Without compression, whose result depends on the library's version."""
    if not contents:
        return b""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, contents[name])
    return target.getvalue()
