# Astro Runtime 3.3-6 is Airflow 3.3.1; the tag names Python 3.12 because the default (3.14) can't run dbt below 1.12.
FROM astrocrpublic.azurecr.io/runtime:3.3-6-python-3.12

# The warehouse environment (dbt and Soda), from the same hash-checked lock as on the laptop and on MWAA.
COPY locks/warehouse.txt /tmp/locks/warehouse.txt
RUN python -m venv /usr/local/airflow/warehouse-venv \
    && /usr/local/airflow/warehouse-venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r /tmp/locks/warehouse.txt

# The stand-in warehouse is DuckDB, which tasks open themselves; in production it is Redshift, so requirements.txt does not have it.
COPY locks/dev.txt /tmp/locks/dev.txt
RUN awk '/^duckdb==/ {found = 1} found {print} found && !/\\$/ {exit}' /tmp/locks/dev.txt > /tmp/locks/duckdb.txt \
    && pip install --no-cache-dir --require-hashes --no-deps -r /tmp/locks/duckdb.txt

# What follows is for the stand-ins of `astro dev start`; a deployment sets its own.
ENV AIRFLOW__DATA_PLATFORM__WAREHOUSE_VENV=/usr/local/airflow/warehouse-venv \
    AIRFLOW__DATA_PLATFORM__BUCKET=data-platform \
    AIRFLOW__DATA_PLATFORM__ZERO_ETL_POLL_SECONDS=2 \
    AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL=10 \
    AIRFLOW__DATA_PLATFORM__CATALOG_DOMAIN_ID=dzd_local0platform \
    AIRFLOW__DATA_PLATFORM__CATALOG_PROJECT_ID=local0platform \
    AIRFLOW__DATA_PLATFORM__INGESTION_SCHEDULE=@hourly \
    AIRFLOW__DATA_PLATFORM__INGESTION_QUEUE_URL=http://platform:4566/123456789012/ingestion-notices \
    AIRFLOW__DATA_PLATFORM__INGESTION_LAKE_ACCOUNT=123456789012 \
    AIRFLOW__DATA_PLATFORM__INGESTION_LAKE_BUCKET=aws-security-data-lake-us-east-1-5oafy3b73vvw3y4s6vq34s47gifytb \
    AIRFLOW__DATA_PLATFORM__INGESTION_LAKE_CRAWLER_ROLE=arn:aws:iam::123456789012:role/security-lake-crawler \
    AIRFLOW__OPENLINEAGE__NAMESPACE=data-platform \
    AIRFLOW__OPENLINEAGE__TRANSPORT='{"type":"composite","continue_on_failure":true,"continue_on_success":true,"sort_transports":true,"transports":{"spool":{"type":"data_platform.lineage.spool.SpoolTransport","priority":2,"url":"file:///usr/local/airflow/.local/lineage"},"catalog":{"type":"data_platform.lineage.transport.RenamingTransport","priority":1,"transformer_class":"data_platform.lineage.naming.CatalogNames","transformer_properties":{"account_id":"123456789012","region":"us-east-1","view_schemas":["finance"],"redshift":{}},"transport":{"type":"data_platform.lineage.transport.DataZoneTransport","domainId":"dzd_local0platform","region":"us-east-1","endpointOverride":"http://platform:4568"}}}}' \
    AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1 \
    DO_NOT_TRACK=1
