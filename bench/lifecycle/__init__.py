"""One task instance as Airflow runs it, of which every part is a process that can be killed at any moment."""
