{# Nothing lost, nothing doubled: sums of the report equal sums of the rows it is made of. `sums` maps the one to the other. #}
{% test adds_up(model, of, sums, of_where='true') %}
with

report as (

    select
        {%- for mine in sums %}
        cast(coalesce(sum({{ mine }}), 0) as decimal(38, 2)) as sum_{{ loop.index }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ model }}

),

facts as (

    select
        {%- for theirs in sums.values() %}
        cast(coalesce(sum({{ theirs }}), 0) as decimal(38, 2)) as sum_{{ loop.index }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ of }}
    where {{ of_where }}

)

select *
from report
cross join facts
where
    {%- for mine in sums %}
    {{ 'or ' if not loop.first }}report.sum_{{ loop.index }} <> facts.sum_{{ loop.index }}
    {%- endfor %}
{% endtest %}
