"""How Airflow loads the package: as imports, cheaply, and never by executing each file under plugins/."""

import ast
import subprocess
import sys
from pathlib import Path

from airflow._shared.module_loading import find_path_from_directory

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"


def defines_a_plugin(path: Path) -> bool:
    classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
    return any(ast.unparse(base).endswith("AirflowPlugin") for one in classes for base in one.bases)


def test_airflow_executes_the_modules_that_define_a_plugin_and_no_others():
    modules = set(PLUGINS.rglob("*.py"))
    assert PLUGINS / "data_platform/zero_etl/triggers.py" in modules
    executed = {Path(path) for path in find_path_from_directory(str(PLUGINS), ".airflowignore", "glob")} & modules
    assert executed == {path for path in modules if defines_a_plugin(path)}


def test_importing_the_package_in_a_dag_file_or_the_triggerer_is_cheap_and_needs_no_include():
    # AWS's SDK alone takes more than the 0.3 s that a DAG file may take to parse.
    code = (
        "import sys, airflow.sdk\n"
        "import data_platform.zero_etl.operators, data_platform.zero_etl.triggers\n"
        "heavy = {'boto3', 'botocore', 'include', 'airflow.providers.amazon.aws.hooks.base_aws'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(PLUGINS), "AIRFLOW_HOME": "/nonexistent", "PATH": "/usr/bin"}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
