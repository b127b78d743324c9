"""What can go wrong with a zero-ETL integration. Those that a retry can't mend derive from `AirflowFailException`."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class ZeroEtlError(AirflowException):
    """Anything that this package raises on purpose."""


class ZeroEtlUnavailable(ZeroEtlError):
    """AWS or the warehouse could not be asked, or did not answer in time. Asking again later may work."""


class ZeroEtlStatementFailed(ZeroEtlError):
    """The warehouse refused a statement."""


class ZeroEtlWaitStopped(ZeroEtlError):
    """Somebody stopped the task while it waited."""


class ZeroEtlConnectionInvalid(ZeroEtlError, AirflowFailException):
    """The Airflow connection or an argument is incomplete or contradicts itself."""


class ZeroEtlAccessDenied(ZeroEtlError, AirflowFailException):
    """AWS or the warehouse does not let the caller in."""


class ZeroEtlUnhealthy(ZeroEtlError, AirflowFailException):
    """The integration is in a state that doesn't mend itself: a person must act first."""


class ZeroEtlNotReady(ZeroEtlError, AirflowFailException):
    """The deadline passed while the integration was still on its way. The wait was long enough; a retry would double it."""


class ZeroEtlConnectRefused(ZeroEtlError, AirflowFailException):
    """The target database can't be made from this integration."""
