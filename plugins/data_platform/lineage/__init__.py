"""Where OpenLineage events go: a durable spool first, then Amazon DataZone under the names it links assets by.

Airflow loads the transports by their dotted path from ``[openlineage] transport``; `config.transport_config` makes that option.
"""
