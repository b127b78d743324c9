"""Airflow's REST API, the same calls on a laptop and on MWAA.

Tasks of Airflow 3 have no access to the metadata database, so pools, variables and connections are made through the API: over HTTP with
a token where the connection is of type ``http``, through the MWAA service (IAM, no password) where it is of type ``aws`` and names
``extra.environment_name``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow.sdk import Connection

API = "/api/v2"
ATTEMPTS = 6
TIMEOUT_SECONDS = 30


class AirflowApiError(RuntimeError):
    """The API refused a request.

    Attributes:
        status: HTTP status of the answer, 0 where there was none.
    """

    def __init__(self, method: str, path: str, status: int, detail: str) -> None:
        super().__init__(f"{method} {path}: expected success, found {status}: {detail[:500]}")
        self.status = status


class AirflowApi(Protocol):
    """One environment's REST API."""

    def request(self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None) -> Any:
        """Call ``path`` (below ``/api/v2``) and return the decoded answer.

        Raises:
            AirflowApiError: any answer but 2xx, once retries are used up.
        """


@dataclass
class HttpAirflowApi:
    """The API over HTTP with a token from ``/auth/token``."""

    base_url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    _token: str | None = field(default=None, repr=False)

    def request(self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None) -> Any:
        """See `AirflowApi.request`. Connection errors and 5xx are tried again: callers name what they create."""
        import requests

        last = AirflowApiError(method, path, 0, "no attempt was made")
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(0.25 * 2**attempt, 4))
            try:
                headers = {"Authorization": f"Bearer {self._login()}"}
                answer = requests.request(
                    method,
                    f"{self.base_url}{API}{path}",
                    json=body,
                    params=params,
                    headers=headers,
                    timeout=TIMEOUT_SECONDS,
                )
            except requests.RequestException as error:
                last = AirflowApiError(method, path, 0, f"no answer from {self.base_url}: {error}")
                continue
            except AirflowApiError as refused:  # of the login
                last = refused
                if refused.status < 500:
                    break
                continue
            if answer.ok:
                return answer.json() if answer.content else None
            last = AirflowApiError(method, path, answer.status_code, answer.text)
            if answer.status_code == 401:  # the token expired
                self._token = None
            elif answer.status_code < 500 and answer.status_code != 429:
                break
        raise last

    def _login(self) -> str:
        import requests

        if self._token is None:
            url = f"{self.base_url}/auth/token"
            if self.username:
                credentials = {"username": self.username, "password": self.password}
                answer = requests.post(url, json=credentials, timeout=TIMEOUT_SECONDS)
            else:  # the simple auth manager without login hands out a token to anyone
                answer = requests.get(url, timeout=TIMEOUT_SECONDS)
            if not answer.ok:
                raise AirflowApiError("POST", "/auth/token", answer.status_code, answer.text)
            self._token = str(answer.json()["access_token"])
        return self._token


@dataclass(frozen=True)
class MwaaAirflowApi:
    """The API through Amazon MWAA's ``InvokeRestApi``, which signs with IAM."""

    aws_conn_id: str
    environment_name: str

    def request(self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None) -> Any:
        """See `AirflowApi.request`."""
        from airflow.providers.amazon.aws.hooks.mwaa import MwaaHook
        from botocore.exceptions import ClientError

        hook = MwaaHook(aws_conn_id=self.aws_conn_id)
        try:
            answer = hook.invoke_rest_api(
                env_name=self.environment_name,
                path=path,
                method=method,
                body=body,
                query_params=params,
                airflow_version=3,
            )
        except ClientError as error:
            response = error.response
            status = int(response.get("RestApiStatusCode") or response["ResponseMetadata"]["HTTPStatusCode"])
            raise AirflowApiError(method, path, status, str(response.get("RestApiResponse") or error)) from error
        return answer.get("RestApiResponse")


def airflow_api_from(connection: Connection) -> AirflowApi:
    """The API that ``connection`` describes.

    Raises:
        ValueError: the connection is of another type, or lacks what its type needs.
    """
    if connection.conn_type == "aws":
        name = connection.extra_dejson.get("environment_name")
        if not name:
            raise ValueError(
                f"connection {connection.conn_id}: expected extra.environment_name (the MWAA environment), found none"
            )
        return MwaaAirflowApi(connection.conn_id, name)
    if connection.conn_type in {"http", "https"} and connection.host:
        host = connection.host if "://" in connection.host else f"{connection.conn_type}://{connection.host}"
        base = f"{host}:{connection.port}" if connection.port else host
        return HttpAirflowApi(base, connection.login, connection.password)
    raise ValueError(
        f"connection {connection.conn_id}: expected type http with a host, or aws with extra.environment_name, "
        f"found {connection.conn_type!r}"
    )


def trigger_dag(api: AirflowApi, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> None:
    """Start a DAG run by a name of our own, so that a repeated request finds the run it already started."""
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
    try:
        api.request("POST", f"/dags/{dag_id}/dagRuns", body)
    except AirflowApiError as error:
        if error.status != 409:
            raise
