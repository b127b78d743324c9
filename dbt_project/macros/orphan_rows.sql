{# The rows of `model` whose foreign key has no parent, per key: the known ones or the others. See tests/generic/orphans.sql. #}
{% macro orphan_rows(model, references, known) %}
{%- for reference in references %}
select
    '{{ reference.column }}' as column_name,
    child.{{ reference.column }} as orphan_id,
    count(*) as orphan_rows
from {{ model }} as child
left join {{ reference.to }} as parent on child.{{ reference.column }} = parent.{{ reference.field }}
where
    child.{{ reference.column }} is not null
    and parent.{{ reference.field }} is null
    {%- set ids = reference.get('known') or [] %}
    {%- if known %}
    and {{ 'child.' ~ reference.column ~ ' in (' ~ ids | join(', ') ~ ')' if ids else 'false' }}
    {%- elif ids %}
    and child.{{ reference.column }} not in ({{ ids | join(', ') }})
    {%- endif %}
group by child.{{ reference.column }}
{%- if not loop.last %}
union all
{%- endif %}
{%- endfor %}
{% endmacro %}
