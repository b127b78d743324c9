{{ config(
    materialized='incremental' if var('history_mode') else 'table',
    incremental_strategy='delete+insert',
    unique_key='listid',
    on_schema_change='fail'
) }}
{{- redshift_keys(dist='eventid', sort=['listtime']) }}

{{ latest_versions(
    versions=ref('stg_tickit__listings'),
    key='listid',
    columns=['sellerid', 'eventid', 'dateid', 'numtickets', 'priceperticket', 'totalprice', 'listtime']
) }}
