"""Which queue and which cluster a submission goes to, and how often the listings may be asked for."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from include.local.batch_gateway.errors import GatewayError

if TYPE_CHECKING:
    from include.local.batch_gateway.config import Cluster, GatewayConfig

DEFAULT_QUEUE: Final = "poc"
_ISSUERS: Final = ("admin", "airflow")


class Router:
    """Chooses by the configuration; the choice among clusters is by chance and by their weights."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._random = random.Random(config.seed)

    def cluster(self, request: dict[str, Any], user: str) -> Cluster:
        """The cluster of a submission.

        Raises:
            GatewayError: 400, there is none with this id, Spark version or queue.
        """
        version, wanted = request.get("sparkVersion"), request.get("clusterId")
        clusters = [one for one in self._config.clusters if _holds(one.spark_versions, version)]
        if wanted:
            for one in clusters:
                if one.id == wanted:
                    return one
            raise GatewayError(f"Cluster with id {wanted} having Spark version {_null(version)} not found")
        clusters = [one for one in clusters if one.weight > 0]
        if not clusters:
            raise GatewayError(f"Spark version not supported: {_null(version)}")
        queue = self.queue(request, user)
        clusters = [one for one in clusters if _holds(one.queues, parent_queue(queue))]
        if not clusters:
            raise GatewayError(f"Cluster with queue {queue} having Spark version {version} not found")
        return self._random.choices(clusters, [one.weight for one in clusters])[0]

    def queue(self, request: dict[str, Any], user: str) -> str:
        """The queue of a submission: the one it names, else one of the user's, else the default.

        Raises:
            GatewayError: 400, the queue needs a token and this is none for it.
        """
        queue = re.sub(r"\.{2,}", ".", request.get("queue") or "").strip(".")
        if not queue:
            own = [one.name for one in self._config.queues if _holds(one.users, user)]
            queue = self._random.choice(own) if own else DEFAULT_QUEUE
        if any(one.secure for one in self._config.queues if one.name.lower() == queue.lower()):
            _check_token(request.get("queueToken"), queue, self._config.token_secrets)
        return queue


def parent_queue(queue: str) -> str:
    """What is before the first dot: routing looks at no more."""
    return queue.split(".")[0]


class RateLimit:
    """Gives so many permits a second; unused ones are kept for one second.

    Args:
        per_second: permits.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._stored = 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def acquire(self) -> bool:
        """Take a permit if one is there now."""
        with self._lock:
            moment = time.monotonic()
            if moment < self._next:
                return False
            self._stored = min(self._per_second, self._stored + (moment - self._next) * self._per_second)
            fresh = max(0.0, 1.0 - self._stored)
            self._stored -= 1.0 - fresh
            self._next = moment + fresh / self._per_second
            return True


def _holds(names: tuple[str, ...], name: str | None) -> bool:
    return name is not None and name.lower() in {one.lower() for one in names}


def _null(value: str | None) -> str:
    return "null" if value is None else value


def _check_token(token: str | None, queue: str, secrets: tuple[str, ...]) -> None:
    if not token:
        raise GatewayError(f"Please specify queueToken for queue {queue}")
    import jwt

    reason, claims = "", None
    for secret in secrets:
        try:
            claims = jwt.decode(token, secret, algorithms=["HS256"], options={"verify_aud": False})
        except jwt.PyJWTError as error:
            reason = str(error)
    if claims is None:
        raise GatewayError(f"Queue token is not valid: {reason}. Please provide a valid queue token")
    if str(claims.get("iss", "")).lower() not in _ISSUERS:
        raise GatewayError(f"Queue token is not valid due to unsupported issuer: {claims.get('iss')}.")
    allowed = claims.get("allowedQueues")
    if allowed is None:
        raise GatewayError("Queue token is not valid due to no claim: allowedQueues.")
    if queue not in allowed:
        raise GatewayError(f"Queue token does not allow queue {queue}.")
