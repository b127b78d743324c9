"""The connection: what it may say, and what it is told when it says something else."""

import json

import pytest
from airflow.sdk import Connection

from data_platform.batch_gateway.config import GatewayConfig
from data_platform.batch_gateway.exceptions import GatewayConnectionInvalid

EXTRA = {
    "base_path": "/apiv2/",
    "user_account": "etl",
    "proxied_user": "finance",
    "queue": "dev",
    "queue_token": "jwt-of-dev",
    "tls_verify": "/etc/ca.pem",
}
EXTRA |= {"read_timeout_seconds": 240, "settle_seconds": "210", "history_url": "https://history/{application_id}"}


def connection(host="https://gateway.example.internal", login="airflow", password="pass-word", port=None, **extra):
    return Connection(
        conn_id="gw",
        conn_type="batch_gateway",
        host=host,
        login=login,
        password=password,
        port=port,
        extra=json.dumps(extra),
    )


def test_everything_that_can_be_said_is_read():
    config = GatewayConfig.from_connection(connection(port=8443, **EXTRA))
    assert config == GatewayConfig(
        url="https://gateway.example.internal:8443/apiv2",
        login="airflow",
        password="pass-word",
        user_account="etl",
        proxied_user="finance",
        queue="dev",
        queue_token="jwt-of-dev",
        tls_verify="/etc/ca.pem",
        read_timeout_seconds=240,
        settle_seconds=210,
        history_url="https://history/{application_id}",
    )


def test_no_secret_is_in_its_representation():
    told = repr(GatewayConfig.from_connection(connection(**EXTRA)))
    assert "pass-word" not in told
    assert "jwt-of-dev" not in told


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("gateway", None, "https://gateway/skatev2"),
        ("http://127.0.0.1:4569", None, "http://127.0.0.1:4569/skatev2"),
        ("http://127.0.0.1", 4569, "http://127.0.0.1:4569/skatev2"),
        ("https://gateway/apiv2/", None, "https://gateway/apiv2"),
        ("http://[::1]:8080", None, "http://[::1]:8080/skatev2"),
    ],
)
def test_the_address_is_put_together(host, port, url):
    assert GatewayConfig.from_connection(connection(host, port=port)).url == url


def test_the_defaults_outlast_the_gateways_own_time_out():
    config = GatewayConfig.from_connection(connection())
    assert min(config.read_timeout_seconds, config.settle_seconds) > 180
    assert config.tls_verify is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": ""}, "expected a host like"),
        ({"host": "ftp://gateway"}, "expected a host like"),
        ({"host": "https://me:secret@gateway"}, "fields of their own"),
        ({"host": "https://gateway:no"}, "port"),
        ({"host": "https://gateway/a", "base_path": "/b"}, "found the path /a in host and /b"),
        ({"login": None}, "a login or extra.user_account"),
        ({"queu": "dev"}, "found queu"),
        ({"tls_verify": 3}, "extra.tls_verify"),
        ({"settle_seconds": -1}, "extra.settle_seconds: expected seconds above 0, found -1"),
        ({"read_timeout_seconds": "soon"}, "extra.read_timeout_seconds"),
        ({"history_url": "https://history"}, "application_id"),
    ],
)
def test_what_can_not_be_meant_is_refused(changes, words):
    with pytest.raises(GatewayConnectionInvalid, match=words) as raised:
        GatewayConfig.from_connection(connection(**changes))
    assert "connection gw" in str(raised.value)
    assert "secret" not in str(raised.value)
