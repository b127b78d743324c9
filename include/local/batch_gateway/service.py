"""What each of the gateway's operations does. It keeps no state of its own beside a cache of a second."""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from include.local.batch_gateway import views
from include.local.batch_gateway.driver_log import NOTHING_FOUND, follow, has_log
from include.local.batch_gateway.errors import WEB, GatewayError, NotAuthorized, java
from include.local.batch_gateway.kubernetes import check_resource, normalize_label
from include.local.batch_gateway.request import parse_request
from include.local.batch_gateway.routes import find_operation
from include.local.batch_gateway.routing import RateLimit, Router
from include.local.batch_gateway.spec import build_labels, build_spec, check_instances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from email.message import Message

    from include.local.batch_gateway.config import Cluster, GatewayConfig
    from include.local.batch_gateway.faults import Fault
    from include.local.batch_gateway.store import Application, Store
    from include.local.batch_gateway.uploads import Uploads

AIRFLOW_ACCOUNT: Final = "airflow_system_account"
"""The account whose submissions are those of the query's ``dagUser``."""
_SHORTEST_ID: Final = 32
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What goes back over HTTP; a body that is not bytes is streamed."""

    status: int
    body: bytes | Iterable[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: dict(_JSON))


@dataclass(frozen=True)
class Call:
    """One request, as an operation reads it."""

    operation: str
    argument: str
    query: Mapping[str, str]
    headers: Message
    body: bytes
    user: str = ""
    fault: Fault | None = None


def answer_json(document: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    return Answer(status, json.dumps(document, separators=(",", ":")).encode())


def answer_error(error: GatewayError) -> Answer:
    """The body of an error; that of a 401 has its code as a text."""
    if isinstance(error, NotAuthorized):
        challenge = {"WWW-Authenticate": 'Basic realm="bpg"'}
        return Answer(401, json.dumps({"code": "401", "message": str(error)}).encode(), _JSON | challenge)
    return answer_json({"code": error.status, "message": error.told}, error.status)


class Service:
    """The gateway.

    Args:
        config: what it serves.
        store: the clusters.
        uploads: where uploaded files go.
    """

    def __init__(self, config: GatewayConfig, store: Store, uploads: Uploads) -> None:
        self.store = store
        self.serving = True
        self._uploads = uploads
        self.configure(config)
        self._listings = RateLimit(config.listings_per_second)
        self._own_listings = RateLimit(config.listings_per_second)
        self._cache: dict[str, tuple[float, dict[str, Any] | GatewayError]] = {}
        self._operations: dict[str, Callable[[Call], Answer]] = {
            "submit": self._submit,
            "status": self._status,
            "delete": self._delete,
            "spec": self._spec,
            "driver": self._driver,
            "describe": self._describe,
            "my_submissions": self._my_submissions,
            "list": self._list,
            "log": self._log,
            "upload": self._upload,
            "health": lambda call: answer_json({"status": "OK"}),
        }

    def configure(self, config: GatewayConfig) -> None:
        """Serve another configuration, of the same paths and limits."""
        self.config = config
        self._router = Router(config)
        self._clusters = {one.id: one for one in config.clusters}

    def find(self, method: str, target: str) -> tuple[str, str]:
        """The operation of a request; see `find_operation`."""
        return find_operation(self.config.base_path, method, target)

    def do(self, found: tuple[str, str], target: str, headers: Message, body: bytes, fault: Fault | None) -> Answer:
        """Do a request whose operation was found.

        Raises:
            GatewayError: what the gateway answers instead.
        """
        query = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        return self._operations[found[0]](Call(*found, query, headers, body, self._user(headers), fault))

    def _user(self, headers: Message) -> str:
        """Who asks: the header, else HTTP Basic; the password is not looked at.

        Raises:
            NotAuthorized: nobody that is allowed.
        """
        named = headers.get_all("User-Account") or []
        scheme, _, encoded = (headers.get("Authorization") or "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, colon, _ = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                colon = name = ""
            named += [name] if colon else []
        for user in named:
            allowed = "*" in self.config.allowed_users or user in self.config.allowed_users
            if allowed and user not in self.config.blocked_users:
                return user
        raise NotAuthorized

    def _cluster(self, submission_id: str) -> Cluster:
        """The cluster of an id: what is before its first dash, which is wrong where the cluster's id has one.

        Raises:
            GatewayError: 400.
        """
        cluster_id, dash, _ = submission_id.partition("-")
        if not dash or not cluster_id:
            raise GatewayError(f"submissionId {submission_id} is invalid")
        if cluster_id not in self._clusters:
            raise GatewayError(f"Cluster {cluster_id} (in submissionId: {submission_id}) not exists")
        return self._clusters[cluster_id]

    def _application(self, submission_id: str) -> Application:
        cluster = self._cluster(submission_id)
        application = self.store.get(submission_id)
        if application is None or application.cluster != cluster.id:
            raise GatewayError("HTTP 404 Not Found", 404)
        return application

    def _submit(self, call: Call) -> Answer:
        request = parse_request(call.body, call.headers.get("Content-Type") or "")
        check_instances(request)
        cluster = self._router.cluster(request, call.user)
        suffix = request.get("submissionIdSuffix")
        submission_id = "-".join(filter(None, (cluster.id, uuid.uuid4().hex, suffix)))
        proxy_user = call.query.get("dagUser", "dagUser") if call.user == AIRFLOW_ACCOUNT else call.user
        queue = self._router.queue(request, call.user)
        spec = build_spec(self.config, request, cluster, call.user, proxy_user)
        labels = build_labels(self.config, request, queue, proxy_user)
        check_resource(submission_id, labels, spec)
        self.store.create(submission_id, cluster.id, labels, spec)
        return answer_json({"submissionId": submission_id})

    def _status(self, call: Call) -> Answer:
        cached = self._cache.get(call.argument)
        moment = time.monotonic()
        if cached is None or cached[0] <= moment:
            cached = (moment + self.config.status_cache_millis / 1000, self._load_status(call))
            self._cache[call.argument] = cached
            self._forget(moment)
        if isinstance(cached[1], GatewayError):
            raise cached[1]
        return answer_json(cached[1])

    def _forget(self, moment: float) -> None:
        if len(self._cache) > 1000:
            self._cache = {one: value for one, value in list(self._cache.items()) if value[0] > moment}

    def _load_status(self, call: Call) -> dict[str, Any] | GatewayError:
        """What is kept for a second: the answer, or that there is no such application.

        Raises:
            GatewayError: 500, an id of no cluster; it is not kept.
        """
        try:
            cluster = self._cluster(call.argument)
        except GatewayError as error:
            raise java("com.google.common.util.concurrent.UncheckedExecutionException", error.told) from error
        if call.fault and call.fault.kubernetes:
            return views.THROTTLED
        application = self.store.get(call.argument)
        if application is None:
            return GatewayError(f"Application submission {call.argument} not found", 404)
        return views.status(application, cluster)

    def _delete(self, call: Call) -> Answer:
        self._cluster(call.argument)
        self.store.delete(call.argument)
        return answer_json({})

    def _spec(self, call: Call) -> Answer:
        return answer_json(views.without_env(self._application(call.argument).document))

    def _driver(self, call: Call) -> Answer:
        application = self._application(call.argument)
        if not application.pod:
            return answer_json({})
        told = {"podName": application.driver, "startTime": views.whole_second(application.pod_started)}
        return answer_json({name: value for name, value in told.items() if value is not None})

    def _describe(self, call: Call) -> Answer:
        application = self._application(call.argument)
        events, of_driver = self.store.events(application.id), self.store.events(application.driver)
        return Answer(200, (line.encode() for line in views.describe(application, events, of_driver)))

    def _my_submissions(self, call: Call) -> Answer:
        _permit(self._own_listings, "mySubmissions", self.config)
        return answer_json(
            {
                "submissions": [
                    views.summary(application, cluster, self.config)
                    for cluster in self.config.clusters
                    for application in self.store.listed(cluster.id, user=call.user)
                ]
            }
        )

    def _list(self, call: Call) -> Answer:
        _permit(self._listings, "submissions", self.config)
        return Answer(200, self._lines(call))

    def _lines(self, call: Call) -> Iterator[bytes]:
        """A line for each application; where a cluster can't be asked, the listing ends as if it were complete."""
        name = call.query.get("name")
        for cluster in self.config.clusters:
            if call.fault and call.fault.cut_at == cluster.id:
                return
            lines = [
                json.dumps(views.summary(application, cluster, self.config), separators=(",", ":"))
                for application in self.store.listed(cluster.id, name=normalize_label(name) if name else None)
            ]
            if lines:
                yield ("\n".join(lines) + "\n").encode()

    def _log(self, call: Call) -> Answer:
        wanted, app_id = call.query.get("subId", ""), call.query.get("appId", "")
        if not wanted and not app_id:
            raise GatewayError("Error: Please provide either a submissionId or an appId.")
        if any(0 < len(one) < _SHORTEST_ID for one in (wanted, app_id)):
            raise GatewayError(f"Invalid submissionId {wanted} or appId {app_id} : Should be at least 32 characters.")
        if not wanted:
            found = self.store.with_app_id(app_id)
            if found is None:
                raise GatewayError(f"Could not find submissionId from the appId {app_id}.")
            wanted = found.id
        return Answer(200, self._log_of(wanted, call))

    def _log_of(self, submission_id: str, call: Call) -> Iterator[bytes]:
        """The log, or the words that there is none; executors have none here, as they are threads of the driver."""
        executor = call.query.get("execId", "")
        of_driver = not executor or executor.endswith("driver")
        cluster_id = submission_id.partition("-")[0]
        application = self.store.get(submission_id) if cluster_id in self._clusters else None
        if call.query.get("s3only", "false").lower() == "false" and of_driver and has_log(application):
            return follow(self.store, submission_id, going=lambda: self.serving)
        return iter([NOTHING_FOUND.encode()])

    def _upload(self, call: Call) -> Answer:
        if call.headers.get("Content-Length") is None:
            raise GatewayError("Please provide content-length in http request header or query parameter")
        folder = call.query.get("folder", "").strip("/")
        if not folder:
            folder = f"{datetime.now(UTC):%Y%m%d}/{uuid.uuid4()}"
        key = "/".join(filter(None, (self.config.s3_folder, folder, call.argument)))
        self._uploads.put(self.config.s3_bucket, key, call.body)
        return answer_json({"url": f"s3a://{self.config.s3_bucket}/{key}"})


def _permit(limit: RateLimit, listing: str, config: GatewayConfig) -> None:
    if not limit.acquire():
        raise GatewayError(
            f"Too many requests for {listing} endpoint (limit: {config.listings_per_second:.0f} requests per second)",
            429,
            WEB,
        )
