{{ redshift_keys(dist='all', sort=['season_year']) }}

with

totals as (

    select
        season_year,
        season,
        cast(count(distinct eventid) as bigint) as events_sold,
        cast(count(*) as bigint) as sales_made,
        cast(sum(qtysold) as bigint) as tickets_sold,
        cast(sum(pricepaid) as decimal(18, 2)) as sales_revenue,
        cast(sum(commission) as decimal(18, 2)) as staff_commission
    from {{ ref('fct_sales') }}
    group by season_year, season

)

select
    totals.*,
    cast(rank() over (order by sales_revenue desc nulls last) as bigint) as revenue_rank
from totals
