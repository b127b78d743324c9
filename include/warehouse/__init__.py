"""The warehouse: dbt runs, publishing, zero-ETL checks, and the one SQL gateway for what is not dbt."""
