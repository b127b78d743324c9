"""What can go wrong with a job before and after it runs. Those that a retry can't mend derive from `AirflowFailException`."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class SparkJobError(AirflowException):
    """Anything that this package raises on purpose."""


class JobUnknown(SparkJobError, AirflowFailException):
    """There is no job of this name."""


class JobNotPackable(SparkJobError, AirflowFailException):
    """A job imports or declares what can't travel to a cluster."""


class JobNotPlaced(SparkJobError):
    """A job's files are not where a cluster would read them."""


class PlacedFileDiffers(JobNotPlaced, AirflowFailException):
    """At the address of a file there is another one; files are never overwritten."""


class JobOutputMissing(SparkJobError):
    """A job has ended well, but its driver's log does not have its result."""
