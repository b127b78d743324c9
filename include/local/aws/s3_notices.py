"""S3's notices in moto, with the version and the sequencer that AWS tells; moto leaves both out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from moto.s3 import notifications

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS: Final = itertools.count(1)


def install() -> None:
    """Make moto behave so; a second call changes nothing."""
    if notifications._get_s3_event.__module__ != __name__:
        notifications._get_s3_event = _with_version(notifications._get_s3_event)


def _with_version(
    make: Callable[..., dict[str, list[dict[str, Any]]]],
) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    def get_s3_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, list[dict[str, Any]]]:
        event = make(event_name, bucket, key, notification_id)
        [record] = event["Records"]
        record["s3"]["object"]["sequencer"] = f"{next(_NUMBERS):016X}"
        if bucket.is_versioned:
            record["s3"]["object"]["versionId"] = key.version_id
        return event

    return get_s3_event
