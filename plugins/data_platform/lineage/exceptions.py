"""What can go wrong on an event's way to the spool and the catalog. None of these fails a task."""

from __future__ import annotations


class LineageError(Exception):
    """Anything that this package raises on purpose."""


class LineageConfigInvalid(LineageError, ValueError):
    """An option of ``[openlineage] transport`` is missing, unknown or contradictory."""


class NotARunEvent(LineageError, ValueError):
    """Not an OpenLineage run event: it lacks what identifies one."""


class EventTooLarge(LineageError):
    """The event is over the catalog's limit even without anything that may be left out."""
