{# A MySQL boolean, which is a tinyint and arrives as a smallint; Redshift has no cast from that to boolean. #}
{% macro flag(column) -%}
    cast({{ column }} as integer) <> 0
{%- endmacro %}
