{{ redshift_keys(dist='even', sort=['year', 'quarter']) }}

with

totals as (

    select
        sale_year as year,
        sale_quarter as quarter,
        eventname,
        count(*) as sales_made,
        cast(sum(pricepaid) as decimal(18, 2)) as sales_revenue,
        cast(sum(commission) as decimal(18, 2)) as staff_commission,
        max(changed_at) as last_changed_at
    from {{ ref('fct_sales') }}
    group by sale_year, sale_quarter, eventname

)

select
    year,
    quarter,
    eventname,
    cast(sales_made as bigint) as sales_made,
    sales_revenue,
    staff_commission,
    {{ exact_ratio('staff_commission', 'sales_revenue', scale=2) }} as commission_pcnt,
    last_changed_at
from totals
