{# Distribution and sort keys, which only Redshift has. #}
{% macro redshift_keys(dist, sort) -%}
    {%- if target.type == 'redshift' -%}{{ config(dist=dist, sort=sort) }}{%- endif -%}
{%- endmacro %}
