{{ redshift_keys(dist='even', sort=['revenue_rank']) }}

with

totals as (

    select
        eventid,
        cast(coalesce(eventname, 'Unknown event') as varchar(200)) as eventname,
        starttime,
        season,
        season_year,
        catgroup,
        catname,
        venueid,
        venuename,
        cast(count(*) as bigint) as sales_made,
        cast(sum(qtysold) as bigint) as tickets_sold,
        cast(sum(pricepaid) as decimal(18, 2)) as sales_revenue,
        cast(sum(commission) as decimal(18, 2)) as staff_commission
    from {{ ref('fct_sales') }} as fct_sales
    group by eventid, fct_sales.eventname, starttime, season, season_year, catgroup, catname, venueid, venuename

)

select
    totals.*,
    cast(rank() over (order by sales_revenue desc nulls last) as bigint) as revenue_rank
from totals
