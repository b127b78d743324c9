{#
    The incrementally built rows are those of the source's history as of the newest change built, less the look-back: a change
    that came later than the look-back allows, or a history that was reloaded, shows here. Then build with --full-refresh.
    Without history mode there is nothing to hold against.
#}
{% test reconciles_with_history(model, versions, key) %}
{% if not var('history_mode') %}
select {{ key }} from {{ model }} where false
{% else %}
with

settled as (

    select {{ dbt.dateadd('second', -var('history_lookback_seconds'), 'max(changed_at)') }} as settled_at
    from {{ model }}

),

expected as (

    select {{ key }}, _record_create_time
    from {{ versions }}
    where
        _record_is_active
        and _record_create_time < (select settled_at from settled)

),

built as (

    select {{ key }}, changed_at
    from {{ model }}
    where not is_deleted

)

-- A version that is active and settled in the source must be built; a row that is built must be active there, or have changed since.
select expected.{{ key }}, 'missing or outdated' as fault
from expected
left join built on expected.{{ key }} = built.{{ key }}
where
    built.{{ key }} is null
    or built.changed_at < expected._record_create_time

union all

select built.{{ key }}, 'not active in the source' as fault
from built
left join {{ versions }} as versions
    on
        built.{{ key }} = versions.{{ key }}
        and (versions._record_is_active or versions._record_delete_time >= (select settled_at from settled))
where versions.{{ key }} is null
{% endif %}
{% endtest %}
