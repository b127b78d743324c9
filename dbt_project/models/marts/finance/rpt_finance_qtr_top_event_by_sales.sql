{{ redshift_keys(dist='all', sort=['year', 'quarter']) }}

with

ranked as (

    select
        *,
        -- Ties share a rank, so a quarter can have more than three rows. Revenue that is not known ranks last.
        cast(rank() over (partition by year, quarter order by sales_revenue desc nulls last) as bigint) as row_num
    from {{ ref('rpt_finance_qtr_total_sales_by_event') }}

)

select
    year,
    quarter,
    eventname,
    sales_made,
    sales_revenue,
    staff_commission,
    commission_pcnt,
    row_num,
    last_changed_at
from ranked
where row_num <= 3
