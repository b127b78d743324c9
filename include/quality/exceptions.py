"""What the quality gate refuses, each named for the refusal. In none of these cases is anything known of the data."""

from __future__ import annotations


class GateError(RuntimeError):
    """Base of all refusals of this package."""


class NothingToCheck(GateError):
    """A gate without checks would let anything pass."""


class KeysRepeat(GateError):
    """Two checks have the same key, so a result would not say which it is of."""


class SodaMissing(GateError):
    """There is no warehouse environment, or no Soda Core in it."""


class SodaCouldNotRun(GateError):
    """Soda ended without a result of every check, or with one that can't be read."""


class ScanInterrupted(GateError):
    """Soda was stopped before it was done."""


class ScanTooSlow(GateError):
    """The scan took longer than it may, and was stopped."""


class GateErrored(GateError):
    """A check could not be evaluated."""


class LoginRefused(GateError):
    """No login to the warehouse could be had."""


class EvidenceUnreadable(GateError):
    """A stored report can't be read."""
