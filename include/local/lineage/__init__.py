"""Tells the column lineage of the dbt models from their SQL; runs where the project is developed, never in production."""
