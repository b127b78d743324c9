"""A driver's log as Kubernetes tells it: from its beginning, and on until the pod ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.local.batch_gateway.store import Application, Store

NOTHING_FOUND: Final = (
    "Cannot find matched log files. Please try again in 5 minutes "
    "if this is a new job which was just started within 5 minutes."
)
"""The gateway's answer where there is no log, with status 200."""

_POLL_SECONDS: Final = 0.05
_CHUNK: Final = 8192


def has_log(application: Application | None) -> bool:
    """Whether there is a pod that has started."""
    return application is not None and application.pod in ("Running", "Succeeded", "Failed")


def follow(store: Store, application_id: str, *, going: Callable[[], bool]) -> Iterator[bytes]:
    """The bytes of a driver's log until its pod has ended or is gone.

    Args:
        store: where the pod is.
        application_id: whose driver.
        going: whether the gateway still serves.
    """
    path, at = store.log_path(application_id), 0
    while True:
        application = store.get(application_id)
        ended = application is None or application.pod != "Running"
        if path.exists():
            with path.open("rb") as log:
                log.seek(at)
                while chunk := log.read(_CHUNK):
                    at += len(chunk)
                    yield chunk
        if ended or not going():
            break
        time.sleep(_POLL_SECONDS)
    yield b"\n"
