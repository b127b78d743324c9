"""How Airflow loads the package: by dotted path, in any of its processes, without ``include`` and without AWS's SDK."""

import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


def test_the_transports_are_made_without_include_and_without_aws():
    code = (
        "import sys\n"
        "from data_platform.lineage.config import transport_config\n"
        "assert not {name for name in sys.modules if name.startswith(('openlineage', 'boto'))}\n"
        "option = transport_config(spool='s3://bucket/lineage', domain_id='dzd_a', region='us-east-1', account_id='123456789012')\n"
        "from openlineage.client import OpenLineageClient\n"
        "client = OpenLineageClient(config={'transport': option})\n"
        "assert [part.name for part in client.transport.transports] == ['spool', 'catalog']\n"
        "print(sorted({'boto3', 'botocore', 'include'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(PLUGINS), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
