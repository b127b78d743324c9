"""Hooks, operators, triggers, links and UI: what the api-server and the triggerer must import. Imports nothing of ``include``."""
