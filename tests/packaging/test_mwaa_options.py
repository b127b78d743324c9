"""The configuration options and connections of an MWAA environment, as they are documented and as Airflow takes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from data_platform.alerts.notifier import SnsChannel, channel_for
from data_platform.connections import ConnectionMissing, find_connection
from data_platform.lineage.config import LineageTransport, read_transport_config
from data_platform.zero_etl.hook import IntegrationConfig
from include.local.aws.trial import trial_aws
from include.local.mwaa.options import (
    CONNECTIONS_PREFIX,
    EXAMPLE,
    OptionsInvalid,
    check,
    configuration_options,
    environment,
    secrets_backend_options,
)
from include.platform import connections
from include.platform.airflow_api import MwaaAirflowApi, airflow_api_from
from include.platform.settings import load_settings
from include.warehouse.connection import RedshiftConnection, warehouse_connection

IDS = {value for name, value in vars(connections).items() if name.isupper() and isinstance(value, str)}

# MWAA's own, unless a user sets them: images/airflow/3.3.1/python/mwaa/config/airflow.py of aws/amazon-mwaa-docker-images
MWAA_DEFAULTS = {
    "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"connections_lookup_pattern": "^(?!aws_default$).*$"}',
    "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": '{"connections_lookup_pattern": "^(?!aws_default$).*$"}',
}


@pytest.fixture(scope="module")
def options():
    return configuration_options(EXAMPLE)


@pytest.fixture(scope="module")
def documented(project_root):
    return json.loads((project_root / "deploy" / "mwaa" / "connections.json").read_text())


def on_mwaa(monkeypatch, options, **arguments):
    """Set what a container of MWAA has; ``arguments`` are added to those of the secrets backend."""
    variables = MWAA_DEFAULTS | environment(options)
    given = json.loads(variables["AIRFLOW__SECRETS__BACKEND_KWARGS"]) | arguments
    for name, value in (variables | {"AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(given)}).items():
        monkeypatch.setenv(name, value)


# options


def test_the_committed_options_are_those_that_the_command_prints(project_root, options):
    committed = json.loads((project_root / "deploy" / "mwaa" / "airflow-configuration-options.json").read_text())
    given = {
        "region": EXAMPLE.region,
        "account": EXAMPLE.account,
        "bucket": EXAMPLE.bucket,
        "domain": EXAMPLE.domain,
        "project": EXAMPLE.project,
    }
    command = [
        sys.executable,
        "-m",
        "include.local",
        "mwaa-options",
        *(f"--{name}={value}" for name, value in given.items()),
    ]
    done = subprocess.run(
        command,
        cwd=project_root,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f".{os.pathsep}plugins"},
    )
    assert done.returncode == 0, done.stderr
    assert committed == options == json.loads(done.stdout)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"account": "1234"}, r"account_id: expected 12 digits, found '1234'"),
        ({"region": "here"}, r"region: expected one like us-east-1, found 'here'"),
        ({"domain": "mydomain"}, r"expected a DataZone domain id like dzd_abc123, found 'mydomain'"),
        ({"bucket": "s3://bucket"}, r"bucket: expected an S3 bucket's name, found 's3://bucket'"),
        (
            {"redshift": {"dw.example.com": "analytics"}},
            r"redshift host dw\.example\.com: expected workgroup:NAME or cluster:NAME, found 'analytics'",
        ),
        (
            {"project": "Übung"},
            r"option data_platform\.catalog_project_id: expected a value like .+ which MWAA takes, found 'Übung'",
        ),
    ],
)
def test_what_would_be_refused_later_is_refused_at_once(changed, message):
    with pytest.raises(OptionsInvalid, match=message):
        configuration_options(replace(EXAMPLE, **changed))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("data_platform.bucket", ""), r"expected a value of 1 to 65536 characters, which MWAA takes, found 0"),
        (
            ("data_platform.bucket", "x" * 65537),
            r"expected a value of 1 to 65536 characters, which MWAA takes, found 65537",
        ),
        (("data_platform." + "x" * 60, "1"), r"expected a name of 1 to 64 characters, which MWAA takes, found 74"),
        (("Data.bucket", "1"), r"expected a name like .+ which MWAA takes, found 'Data\.bucket'"),
        (
            ("data_platform.dbt_threads", "many"),
            r"option data_platform\.dbt_threads: expected a value of type int, found 'many'",
        ),
    ],
)
def test_the_limits_are_those_of_mwaas_api(option, message):
    with pytest.raises(OptionsInvalid, match=message):
        check(dict([option]))


def test_the_command_says_what_is_wrong(project_root):
    command = [
        sys.executable,
        "-m",
        "include.local",
        "mwaa-options",
        "--region=us-east-1",
        "--account=1",
        "--bucket=bucket",
    ]
    environ = os.environ | {"PYTHONPATH": f".{os.pathsep}plugins"}
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mwaa-options: lineage names: account_id: expected 12 digits, found '1'\n"
    done = subprocess.run(
        [*command, "--redshift-host=dw"], cwd=project_root, capture_output=True, text=True, env=environ
    )
    assert "--redshift-host: expected HOST=workgroup:NAME or HOST=cluster:NAME" in done.stderr


def test_without_a_catalog_lineage_is_spooled_and_nothing_else_is_set():
    told = configuration_options(replace(EXAMPLE, domain="", project=""))
    transport = LineageTransport.from_option(json.loads(told["openlineage.transport"]))
    assert (transport.spool, transport.domain_id) == (f"s3://{EXAMPLE.bucket}/lineage", "")
    assert not [name for name in told if name.startswith("data_platform.catalog_")]


def test_a_host_that_does_not_say_its_warehouse_is_named(options):
    told = configuration_options(replace(EXAMPLE, redshift={"dw.example.com": "workgroup:analytics"}))
    assert '"redshift":{"dw.example.com":{"workgroup":"analytics"}}' in told["openlineage.transport"]
    assert len(told["openlineage.transport"]) < 2000  # far from the limit: some hundred hosts fit


def test_airflow_and_the_platform_read_what_was_set(options, monkeypatch):
    on_mwaa(monkeypatch, options)
    settings = load_settings()
    assert (settings.bucket, settings.catalog_domain_id, settings.catalog_project_id) == (
        EXAMPLE.bucket,
        EXAMPLE.domain,
        EXAMPLE.project,
    )
    transport = read_transport_config()
    assert (transport.spool, transport.domain_id, transport.region) == (
        f"s3://{EXAMPLE.bucket}/lineage",
        EXAMPLE.domain,
        EXAMPLE.region,
    )


def test_openlineage_makes_its_transports_of_the_option(options, monkeypatch):
    from openlineage.client.transport import get_default_factory

    monkeypatch.setenv("AWS_DEFAULT_REGION", EXAMPLE.region)
    transport = get_default_factory().create(json.loads(options["openlineage.transport"]))
    names = [type(each).__name__ for each in transport.transports]
    assert names == ["SpoolTransport", "RenamingTransport"]


def test_every_setting_is_an_option_that_mwaa_takes():
    from dataclasses import fields

    from include.platform.settings import Settings

    check({f"data_platform.{option.name}": str(option.default) for option in fields(Settings) if str(option.default)})


# connections


def test_there_is_an_example_of_every_connection(documented):
    assert set(documented) == IDS


@pytest.fixture
def from_secret(documented):
    """A connection as Airflow's backend makes it of a secret's text."""
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
    from airflow.sdk import Connection

    def make(conn_id, **changed):
        secret = documented[conn_id] | changed
        return Connection.from_json(
            json.dumps(SecretsManagerBackend()._standardize_secret_keys(secret)), conn_id=conn_id
        )

    return make


def test_the_examples_are_read_as_they_are_meant(from_secret):
    warehouse = warehouse_connection(from_secret(connections.WAREHOUSE_BUILD))
    assert isinstance(warehouse, RedshiftConnection)
    assert (warehouse.workgroup, warehouse.iam, warehouse.port, warehouse.database) == ("analytics", True, 5439, "dev")

    integration = IntegrationConfig.from_extra(
        connections.ZERO_ETL_TICKIT, from_secret(connections.ZERO_ETL_TICKIT).extra_dejson
    )
    assert integration.warehouse()["WorkgroupName"] == "analytics"
    assert integration.warehouse()["SecretArn"].startswith("arn:aws:secretsmanager:")

    api = airflow_api_from(from_secret(connections.AIRFLOW_API))
    assert api == MwaaAirflowApi(connections.AIRFLOW_API, "data-platform")

    channel = channel_for(connections.ALERTS_FAILURES, from_secret(connections.ALERTS_FAILURES))
    assert isinstance(channel, SnsChannel)

    assert from_secret(connections.AWS).extra_dejson == {"region_name": "us-east-1"}


def test_the_documentation_has_every_connection_with_its_type(project_root, documented):
    text = (project_root / "docs" / "deploy.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))
    for conn_id, secret in documented.items():
        assert f"`{secret['conn_type']}`" in rows[conn_id], conn_id


# secrets


@pytest.fixture(scope="module")
def secrets_manager(documented):
    with trial_aws() as url:
        client = boto3.client("secretsmanager", endpoint_url=url)
        for conn_id in IDS - {connections.AWS, connections.ALERTS_FAILURES}:
            client.create_secret(Name=f"{CONNECTIONS_PREFIX}/{conn_id}", SecretString=json.dumps(documented[conn_id]))
        client.create_secret(Name=f"{CONNECTIONS_PREFIX}/aws_default", SecretString='{"conn_type": "http"}')
        yield url


def test_a_connection_comes_from_secrets_manager(secrets_manager, options, monkeypatch):
    on_mwaa(monkeypatch, options, endpoint_url=secrets_manager)
    connection = find_connection(connections.WAREHOUSE_BUILD)
    assert warehouse_connection(connection).workgroup == "analytics"


def test_what_mwaa_sets_for_workers_does_not_replace_the_prefix(options, monkeypatch):
    """In a task Airflow asks for the worker's backend first."""
    from airflow.sdk.configuration import conf

    on_mwaa(monkeypatch, options)
    for worker in (True, False):
        backend = conf._get_custom_secret_backend(worker_mode=worker)
        assert type(backend).__name__ == "SecretsManagerBackend"
        assert backend.connections_prefix == CONNECTIONS_PREFIX
        assert backend.connections_lookup_pattern == secrets_backend_options()["connections_lookup_pattern"]


@pytest.fixture
def asked(monkeypatch, options):
    """The secrets that are asked for, by a server that has none."""
    seen = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(json.loads(body)["SecretId"])
            answer = b'{"__type": "ResourceNotFoundException"}'
            self.send_response(400)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        on_mwaa(monkeypatch, options, endpoint_url=f"http://127.0.0.1:{server.server_port}")
        yield seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("conn_id", [connections.AWS, "redshift_default", "warehouse_build_2"])
def test_no_call_is_made_for_an_id_outside_the_pattern(asked, conn_id):
    with pytest.raises(
        ConnectionMissing, match=r"outside the secrets backend's connections_lookup_pattern \^\(airflow_api\|"
    ):
        find_connection(conn_id)
    assert asked == []


@pytest.mark.parametrize("conn_id", sorted(IDS - {connections.AWS}))
def test_a_missing_secret_is_told_with_its_name_and_what_to_do(asked, conn_id):
    with pytest.raises(ConnectionMissing) as caught:
        find_connection(conn_id)
    assert asked == [f"{CONNECTIONS_PREFIX}/{conn_id}"]
    assert str(caught.value) == (
        f"connection {conn_id}: expected the secret data-platform/connections/{conn_id}, which the role of this Airflow may read "
        f"(secretsmanager:GetSecretValue), or a connection of Airflow's own or the variable AIRFLOW_CONN_{conn_id.upper()}, found none; "
        "what it holds is in docs/deploy.md, Connections"
    )


def test_no_variable_and_no_configuration_is_asked_for(asked):
    from airflow.sdk.configuration import conf

    backend = conf._get_custom_secret_backend(worker_mode=True)
    assert backend.get_variable("anything") is None
    assert backend.get_config("sql_alchemy_conn") is None
    assert asked == []


def test_without_a_secrets_backend_the_variable_is_named():
    with pytest.raises(
        ConnectionMissing,
        match=r"connection warehouse_build: expected a connection of Airflow's own or the variable AIRFLOW_CONN_",
    ):
        find_connection(connections.WAREHOUSE_BUILD)


def test_the_zero_etl_hook_says_which_secret_is_missing(asked):
    from data_platform.zero_etl.hook import ZeroEtlHook

    with pytest.raises(ConnectionMissing, match=r"expected the secret data-platform/connections/zero_etl_tickit"):
        ZeroEtlHook(connections.ZERO_ETL_TICKIT).checkpoint()


def test_the_policy_lets_the_role_read_these_secrets_and_no_others(project_root):
    policy = json.loads((project_root / "deploy" / "iam" / "platform.json").read_text())
    [statement] = [each for each in policy["Statement"] if "secretsmanager:GetSecretValue" in each["Action"]]
    assert f"arn:aws:secretsmanager:<REGION>:<ACCOUNT>:secret:{CONNECTIONS_PREFIX}/*" in statement["Resource"]
    assert all(":secret:data-platform/" in resource for resource in statement["Resource"])
