{#
    Foreign keys without a parent. `references` is a list of {column, to, field, known}; `known` names the orphans that the
    business knows of. Two tests, since one query can't both warn of these and fail for any other.
#}

{% test no_new_orphans(model, references) %}
{{ orphan_rows(model, references, known=false) }}
{% endtest %}

{# Warns with the number of rows that refer to a known orphan. #}
{% test known_orphans(model, references) %}
{{ config(severity='warn', fail_calc='coalesce(sum(orphan_rows), 0)') }}
{{ orphan_rows(model, references, known=true) }}
{% endtest %}
