{# Meteorological season of the northern hemisphere (TICKIT sells in the United States). #}
{% macro season_of(day) -%}
    case
        when extract(month from {{ day }}) in (12, 1, 2) then 'Winter'
        when extract(month from {{ day }}) in (3, 4, 5) then 'Spring'
        when extract(month from {{ day }}) in (6, 7, 8) then 'Summer'
        when extract(month from {{ day }}) in (9, 10, 11) then 'Autumn'
    end
{%- endmacro %}

{# December belongs to the winter of the year that follows, so that a winter is one season. #}
{% macro season_year_of(day) -%}
    cast(extract(year from {{ day }}) + case when extract(month from {{ day }}) = 12 then 1 else 0 end as integer)
{%- endmacro %}
