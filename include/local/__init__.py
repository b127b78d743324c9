"""The local platform: stand-ins for AWS-only services and the supervisor that runs them beside Airflow.

Nothing in production imports this package; a test holds it. Everything binds 127.0.0.1 and keeps its state under ``.local/``.
"""
