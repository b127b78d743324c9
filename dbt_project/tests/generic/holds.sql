{# Every row satisfies the condition (or leaves it unknown, by a null). #}
{% test holds(model, condition) %}
select *
from {{ model }}
where not ({{ condition }})
{% endtest %}
