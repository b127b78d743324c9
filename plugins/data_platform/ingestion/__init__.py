"""The intake, as far as Airflow itself has to know it: the doorbell that wakes it when its queue holds messages."""
