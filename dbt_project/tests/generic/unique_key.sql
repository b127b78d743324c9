{# The columns together are unique, and none is null but the `nullable` ones (whose nulls count as one value). #}
{% test unique_key(model, columns, nullable=[]) %}
select
    {{ columns | join(', ') }},
    count(*) as rows_found
from {{ model }}
group by {{ columns | join(', ') }}
having
    count(*) > 1
    {%- for column in columns if column not in nullable %}
    or {{ column }} is null
    {%- endfor %}
{% endtest %}
