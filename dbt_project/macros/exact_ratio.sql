{#
    numerator / denominator as decimal(18, 4), rounded half away from zero; null when the denominator is zero or null.

    Both arguments are columns (they are repeated) of the same decimal scale. The two warehouses divide decimals differently:
    DuckDB gives a double, Redshift a numeric whose scale depends on the precisions. So the quotient is made of whole numbers:
    the remainder is taken off first, which makes the division exact whether `/` between bigints truncates (Redshift) or gives
    a double (DuckDB). Limit: |numerator| < 4.6e14 in its smallest unit, else bigint overflows (an error, not a wrong result).
#}
{% macro exact_ratio(numerator, denominator, scale=0) -%}
    {%- set a = 'cast(' ~ numerator ~ ' * ' ~ 10 ** scale ~ ' as bigint)' -%}
    {%- set b = 'nullif(cast(' ~ denominator ~ ' * ' ~ 10 ** scale ~ ' as bigint), 0)' -%}
    {%- set dividend = '(abs(' ~ a ~ ') * 20000 + abs(' ~ b ~ '))' -%}
    {%- set divisor = '(abs(' ~ b ~ ') * 2)' -%}
    cast(
        case when ({{ a }} < 0) <> ({{ b }} < 0) then -1 else 1 end
        * cast(({{ dividend }} - mod({{ dividend }}, {{ divisor }})) / {{ divisor }} as bigint)
        * cast(0.0001 as decimal(5, 4))
    as decimal(18, 4))
{%- endmacro %}
