{#
    `<build schema>_<layer>`, in every environment: build_staging, build_intermediate, build_finance. Published models are built in
    `<build schema>_<layer>_audit`, where the quality gate looks at them before anyone else can.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layer = '' if custom_schema_name is none else '_' ~ custom_schema_name | trim -%}
    {{ target.schema ~ layer ~ ('_audit' if 'published' in node.config.get('tags', []) else '') }}
{%- endmacro %}
