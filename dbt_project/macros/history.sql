{#
    Zero-ETL history mode (https://docs.aws.amazon.com/redshift/latest/mgmt/zero-etl-history-mode.html): an update closes the
    active version of a row and adds another, a delete only closes it. Closed versions stay.
#}

{# The history columns of a source table; without history mode, constants of the same types: one version, active, of no known time. #}
{% macro history_columns() -%}
    {%- if var('history_mode') -%}
    cast(_record_is_active as boolean) as _record_is_active,
    cast(_record_create_time as timestamp) as _record_create_time,
    cast(_record_delete_time as timestamp) as _record_delete_time
    {%- else -%}
    cast(true as boolean) as _record_is_active,
    cast(null as timestamp) as _record_create_time,
    cast(null as timestamp) as _record_delete_time
    {%- endif -%}
{%- endmacro %}

{# Whether this run adds to what is built. Offline (--no-introspect) nothing can be looked up, so a variable says which to compile. #}
{% macro builds_increment() -%}
    {{ return(is_incremental() if flags.INTROSPECT else var('compile_incremental_branch')) }}
{%- endmacro %}

{#
    One row per key that ever was: its active version, or, when it has none, a tombstone (is_deleted) that keeps the key and
    the times but no attributes, since which of several versions closed in one instant came last is not known.

    An increment takes every key that changed since the newest change already built, less the look-back, and resolves it from
    *all* its versions; so versions of one transaction, late, repeated and resurrected ones give what a full refresh gives.
    Keys whose stored state is the same (a change adds a version or closes one) are left alone: within the look-back nothing
    is rewritten that did not change.
#}
{% macro latest_versions(versions, key, columns) -%}
with

versions as (

    select
        *,
        greatest(_record_create_time, coalesce(_record_delete_time, _record_create_time)) as version_changed_at
    from {{ versions }}

),
{% if builds_increment() %}
watermark as (

    -- A null means a first increment, or one after builds without history mode: then everything is read.
    select coalesce(
        {{ dbt.dateadd('second', -var('history_lookback_seconds'), 'max(changed_at)') }}, cast('1900-01-01' as timestamp)
    ) as changed_since
    from {{ this }}

),

changed_keys as (

    select distinct {{ key }}
    from versions
    where version_changed_at >= (select changed_since from watermark)

),
{% endif %}
ranked as (

    select
        versions.*,
        row_number() over (
            partition by {{ key }}
            order by
                case when _record_is_active then 0 else 1 end,
                version_changed_at desc nulls last,
                _record_create_time desc nulls last
        ) as version_rank,
        max(version_changed_at) over (partition by {{ key }}) as changed_at,
        count(*) over (partition by {{ key }}) as version_count
    from versions
    {%- if builds_increment() %}
    where {{ key }} in (select {{ key }} from changed_keys)
    {%- endif %}

),

latest as (

    select
        {{ key }},
        {%- for column in columns %}
        case when _record_is_active then {{ column }} end as {{ column }},
        {%- endfor %}
        not _record_is_active as is_deleted,
        changed_at,
        cast(version_count as bigint) as version_count
    from ranked
    where version_rank = 1

)

select latest.*
from latest
{%- if builds_increment() %}
left join {{ this }} as built
    on
        latest.{{ key }} = built.{{ key }}
        and latest.changed_at = built.changed_at
        and latest.version_count = built.version_count
        and latest.is_deleted = built.is_deleted
where built.{{ key }} is null
{%- endif %}
{%- endmacro %}
