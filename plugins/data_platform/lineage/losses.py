"""The last resort: an event that neither spool nor catalog took is written to the task's log, from where a person can bring it back."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from data_platform.lineage.events import to_bytes
from data_platform.lineage.exceptions import EventTooLarge
from data_platform.lineage.size import fit

if TYPE_CHECKING:
    from data_platform.lineage.events import EventKey

log = logging.getLogger(__name__)

LOGGED_BYTES = 30_000
"""A line of a log stays readable, and far below the 1 MB that CloudWatch Logs takes as one event
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html)."""
REMEMBERED = 1000
_not_spooled: OrderedDict[str, None] = OrderedDict()


def remember(token: str) -> None:
    """Note that the spool could not take this event; whoever comes next in this process can ask for it."""
    _not_spooled[token] = None
    while len(_not_spooled) > REMEMBERED:
        _not_spooled.popitem(last=False)


def is_spooled(token: str) -> bool:
    """Whether the spool of this process took the event, as far as is known."""
    return token not in _not_spooled


def settle(token: str) -> None:
    """Forget an event that is safe, or told."""
    _not_spooled.pop(token, None)


def tell(key: EventKey, event: dict[str, Any], who: str, file: str) -> None:
    """Write the event to the log at level ERROR: in full up to `LOGGED_BYTES`, else without what `size.fit` leaves out."""
    settle(key.token)
    try:
        body = fit(event, LOGGED_BYTES).body
    except EventTooLarge:
        job = event.get("job", {})
        body = to_bytes({"run": {"runId": key.run_id}, "job": {"name": str(job.get("name"))[:1000]}})
    log.error(
        "lineage: %s did not take this event. Save it as %s in the spool and reconcile_lineage sends it: %s",
        who,
        file,
        body.decode(),
    )
