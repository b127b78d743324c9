"""DataZone's client, and how to wait for it: which errors a wait may mend and which it never will."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final

from include.platform import connections

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 20.0
_CLIENT: Final = {
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 1},  # waiting is done here, where it can be told
}
_REFUSED: Final = frozenset({"ValidationException", "RequestEntityTooLarge", "413"})
_THROTTLED: Final = frozenset(
    {"ThrottlingException", "TooManyRequestsException", "ServiceQuotaExceededException", "429"}
)
_UNSENDABLE: Final = frozenset({"NoCredentialsError", "PartialCredentialsError"})


class CatalogError(Exception):
    """Anything the catalog, or the way to it, answers but what was asked for."""


class CatalogUnavailable(CatalogError):
    """The catalog does not answer, is too busy, or does not let us in. Asking later may work."""


class NotInCatalog(CatalogUnavailable):
    """The catalog knows no such thing: an event it never took, an asset that was removed, or the domain itself."""


class RequestRefused(CatalogError):
    """The catalog does not want this content, now or later."""


class RequestConflicts(CatalogError):
    """The catalog has another content under the same token, or another thing of the same identifier."""


class Patience:
    """Calls the catalog, and again after a growing wait with jitter while it is busy or away.

    It is spent once: after a call that was waited for in vain, each further one is tried once, until one is answered.

    Args:
        whom: who is called, for messages.
        pause: sleeps.
        jitter: a random number below 1.
    """

    def __init__(
        self, whom: str, *, pause: Callable[[float], None] = time.sleep, jitter: Callable[[], float] = random.random
    ) -> None:
        self._whom = whom
        self._pause = pause
        self._jitter = jitter
        self._spent = False

    def call(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer.

        Raises:
            RequestRefused: the catalog does not want the content.
            RequestConflicts: it has another one.
            NotInCatalog: it knows no such thing.
            CatalogUnavailable: it does not answer, or does not let us in.
        """
        attempts = 1 if self._spent else ATTEMPTS
        for attempt in range(attempts):
            try:
                answer = call()
            except Exception as error:
                refusal = _as_refusal(error)
                if refusal is not None:
                    self._spent = False  # it answers
                    raise refusal from error
                if attempt == attempts - 1:
                    self._spent = True
                    raise CatalogUnavailable(f"expected an answer of {self._whom}, found: {error}") from error
                wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**attempt) * (0.5 + self._jitter() / 2)
                log.debug("catalog: %s; again in %.1f s", error, wait)
                self._pause(wait)
            else:
                self._spent = False
                return answer
        raise AssertionError("unreachable")


def _as_refusal(error: Exception) -> CatalogError | None:
    """What no waiting mends; None for what it may."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "ConflictException":
        return RequestConflicts(str(error))
    if code in _REFUSED or type(error).__name__ == "ParamValidationError":  # which the client raises, unsent
        return RequestRefused(str(error))
    if code == "ResourceNotFoundException":
        return NotInCatalog(str(error))
    if 400 <= status < 500 and code not in _THROTTLED and status != 429:
        return CatalogUnavailable(str(error))  # access: a person's to mend, and nothing to do with the content
    if type(error).__name__ in _UNSENDABLE:
        return CatalogUnavailable(str(error))
    return None


def open_client() -> Any:
    """boto3's DataZone client, as the AWS connection says."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config

    hook: AwsGenericHook[Any] = AwsGenericHook(
        aws_conn_id=connections.AWS, client_type="datazone", config=Config(**_CLIENT)
    )
    return hook.get_conn()
