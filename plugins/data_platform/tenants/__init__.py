"""Tenant portability, as far as Airflow itself has to know it: the trigger that waits for changes, the page with the live report."""
