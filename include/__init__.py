"""The platform's library. DAG files import from here; nothing here defines a DAG.

Imports flow one way: ``dags`` → ``include`` → ``plugins``.
"""
