"""The states of a migration, and which may follow which."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Final


class State(StrEnum):
    """Where a migration is."""

    PLANNED = "PLANNED"
    PREFLIGHT = "PREFLIGHT"
    """Looked at: it may begin."""
    PROVISIONED = "PROVISIONED"
    """Resources, configuration and identity of the target are there."""
    STREAM_ARMED = "STREAM_ARMED"
    """From here on no change of the source's items is missed."""
    COPYING = "COPYING"
    CATCHING_UP = "CATCHING_UP"
    """Copied; changes are replayed."""
    VERIFIED = "VERIFIED"
    APPROVED = "APPROVED"
    FENCED = "FENCED"
    """The tenant's writes are kept out."""
    SWITCHED = "SWITCHED"
    """The tenant is on the target."""
    SOAK = "SOAK"
    """Changes are replayed to the source, so that it can be switched back."""
    COMPLETE = "COMPLETE"
    ABORTED = "ABORTED"
    ROLLED_BACK = "ROLLED_BACK"
    ARCHIVED = "ARCHIVED"
    """The evidence is locked away."""
    CLEANED = "CLEANED"
    """What the tenant left behind is gone, and the tenant is free for another migration."""


OUTCOMES: Final = (State.COMPLETE, State.ABORTED, State.ROLLED_BACK)
"""How a migration may come out; each is archived, then cleaned up."""

_FORWARD: Final = (*list(State)[: list(State).index(State.COMPLETE) + 1],)
"""The way of a migration that moves data and ends well."""

_ALSO: Final[dict[State, set[State]]] = {
    State.PROVISIONED: {State.VERIFIED},  # between two pooled tiers no data moves
    State.VERIFIED: {State.CATCHING_UP},  # the verification has expired
    State.APPROVED: {State.CATCHING_UP, State.SWITCHED},  # the approval has; no data moves
    State.FENCED: {State.CATCHING_UP, State.APPROVED},  # not equal; over budget: the fence is open again
    State.SWITCHED: {State.COMPLETE, State.ROLLED_BACK},  # no data moves
    State.SOAK: {State.ROLLED_BACK},
}

FOLLOWING: Final[dict[State, frozenset[State]]] = {
    **{
        state: frozenset({following, *_ALSO.get(state, ())})
        | (frozenset({State.ABORTED}) if _FORWARD.index(state) < _FORWARD.index(State.SWITCHED) else frozenset())
        for state, following in pairwise(_FORWARD)
    },
    **{outcome: frozenset({State.ARCHIVED}) for outcome in OUTCOMES},
    State.ARCHIVED: frozenset({State.CLEANED}),
    State.CLEANED: frozenset(),
}
"""Which states may follow a state."""


def reached(state: State, wanted: State) -> bool:
    """Whether a migration on its way to the good end is at ``wanted`` or past it."""
    return state in _FORWARD and _FORWARD.index(state) >= _FORWARD.index(wanted)
