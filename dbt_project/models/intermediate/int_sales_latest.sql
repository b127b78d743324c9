{{ config(
    materialized='incremental' if var('history_mode') else 'table',
    incremental_strategy='delete+insert',
    unique_key='salesid',
    on_schema_change='fail'
) }}
{{- redshift_keys(dist='eventid', sort=['saletime']) }}

{{ latest_versions(
    versions=ref('stg_tickit__sales'),
    key='salesid',
    columns=['listid', 'sellerid', 'buyerid', 'eventid', 'dateid', 'qtysold', 'pricepaid', 'commission', 'saletime']
) }}
