"""What a connection of type ``batch_gateway`` says.

As JSON::

    {"conn_type": "batch_gateway", "host": "https://gateway.example.internal", "login": "airflow", "password": "…", "extra": {
        "base_path": "/skatev2",          # where the gateway's REST interface begins
        "user_account": "airflow",        # header User-Account, which the gateway reads before HTTP Basic
        "proxied_user": "finance",        # dagUser: whom jobs run for; counts only for the gateway's Airflow system accounts
        "queue": "dev", "queue_token": "…",   # of jobs that name none
        "tls_verify": true,               # or the path of a CA bundle
        "read_timeout_seconds": 200,      # the gateway's own time-out towards Kubernetes can be 180 s
        "settle_seconds": 200,            # how long after a submission without an answer its job may still appear
        "history_url": "https://history.example.internal/history/{application_id}"}}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from data_platform.batch_gateway.exceptions import GatewayConnectionInvalid
from data_platform.batch_gateway.names import normalise_label

if TYPE_CHECKING:
    from airflow.sdk import Connection

CONN_TYPE: Final = "batch_gateway"
DEFAULT_BASE_PATH: Final = "/skatev2"
DEFAULT_READ_TIMEOUT_SECONDS: Final = 200.0
"""Above the 180 s that the gateway may wait for Kubernetes: an answer given up on is a job of unknown fate."""
DEFAULT_SETTLE_SECONDS: Final = 200.0

_EXTRA: Final = (
    "base_path",
    "user_account",
    "proxied_user",
    "queue",
    "queue_token",
    "tls_verify",
    "read_timeout_seconds",
    "settle_seconds",
    "history_url",
)


@dataclass(frozen=True)
class GatewayConfig:
    """The connection, checked.

    Attributes:
        url: scheme, host, port and base path, without a slash at the end.
        tls_verify: whether the certificate is checked, or the path of a CA bundle to check it with.
        read_timeout_seconds: how long an answer is waited for.
        settle_seconds: how long after a submission whose answer was lost the job may still appear in a listing.
        history_url: page of a finished job in the Spark history server; ``{application_id}`` is filled in.
    """

    url: str
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    user_account: str | None = None
    proxied_user: str | None = None
    queue: str | None = None
    queue_token: str | None = field(default=None, repr=False)
    tls_verify: bool | str = True
    read_timeout_seconds: float = DEFAULT_READ_TIMEOUT_SECONDS
    settle_seconds: float = DEFAULT_SETTLE_SECONDS
    history_url: str | None = None

    @classmethod
    def from_connection(cls, connection: Connection) -> GatewayConfig:
        """Read and check the connection.

        Raises:
            GatewayConnectionInvalid: something is missing, unknown or malformed.
        """
        where = f"connection {connection.conn_id}"
        extra = {key: value for key, value in connection.extra_dejson.items() if value not in (None, "")}
        if unknown := sorted(set(extra) - set(_EXTRA)):
            raise GatewayConnectionInvalid(
                f"{where}: expected only {', '.join(_EXTRA)} in extra, found {', '.join(unknown)}"
            )
        if not connection.login and not extra.get("user_account"):
            raise GatewayConnectionInvalid(f"{where}: expected a login or extra.user_account, found neither")
        users = {
            "the user": extra.get("user_account") or connection.login,
            "extra.proxied_user": extra.get("proxied_user"),
        }
        for name, user in users.items():
            if user and normalise_label(user) != user:
                raise GatewayConnectionInvalid(
                    f"{where}: {name}: expected what can be a Kubernetes label (letters, digits, -, _ and ., at most 63), found {user!r}; "
                    "the gateway answers 500 to others"
                )
        history = extra.get("history_url")
        if history and "{application_id}" not in history:
            raise GatewayConnectionInvalid(
                f"{where}: extra.history_url: expected {{application_id}} in it, found {history!r}"
            )
        return cls(
            url=_url(where, connection, str(extra.get("base_path", DEFAULT_BASE_PATH))),
            login=connection.login or None,
            password=connection.password or None,
            user_account=extra.get("user_account"),
            proxied_user=extra.get("proxied_user"),
            queue=extra.get("queue"),
            queue_token=extra.get("queue_token"),
            tls_verify=_tls_verify(where, extra.get("tls_verify", True)),
            read_timeout_seconds=_seconds(where, extra, "read_timeout_seconds", DEFAULT_READ_TIMEOUT_SECONDS),
            settle_seconds=_seconds(where, extra, "settle_seconds", DEFAULT_SETTLE_SECONDS),
            history_url=history,
        )


def _url(where: str, connection: Connection, base_path: str) -> str:
    host = connection.host or ""
    parts = urlsplit(host if "://" in host else f"https://{host}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        shown = host.rpartition("@")[2]  # what is before it may be a password
        raise GatewayConnectionInvalid(
            f"{where}: expected a host like https://gateway.example.internal, found {shown!r}; login and password have fields of their own"
        )
    path = parts.path.rstrip("/")
    if path and base_path != DEFAULT_BASE_PATH and path != base_path.rstrip("/"):
        raise GatewayConnectionInvalid(f"{where}: found the path {path} in host and {base_path} in extra.base_path")
    try:
        port = connection.port or parts.port
    except ValueError as error:
        raise GatewayConnectionInvalid(f"{where}: expected a port number in host, found {parts.netloc!r}") from error
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}/{(path or base_path).strip('/')}".rstrip("/")


def _tls_verify(where: str, value: Any) -> bool | str:
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return words.get(value.lower(), value)
    raise GatewayConnectionInvalid(
        f"{where}: extra.tls_verify: expected true, false or a CA bundle's path, found {value!r}"
    )


def _seconds(where: str, extra: dict[str, Any], key: str, default: float) -> float:
    try:
        seconds = float(extra.get(key, default))
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise GatewayConnectionInvalid(f"{where}: extra.{key}: expected seconds above 0, found {extra.get(key)!r}")
    return seconds
