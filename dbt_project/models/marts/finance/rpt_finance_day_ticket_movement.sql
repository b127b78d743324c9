{{ redshift_keys(dist='even', sort=['activity_date']) }}

with

activity as (

    select
        list_date as activity_date,
        catgroup,
        1 as listings_made,
        numtickets as tickets_listed,
        0 as sales_made,
        0 as tickets_sold,
        cast(0 as decimal(8, 2)) as sales_revenue
    from {{ ref('fct_listings') }}

    union all

    select
        sale_date as activity_date,
        catgroup,
        0 as listings_made,
        0 as tickets_listed,
        1 as sales_made,
        qtysold as tickets_sold,
        pricepaid as sales_revenue
    from {{ ref('fct_sales') }}

),

daily as (

    -- A listing without a time has no place on a time axis; a test of fct_listings warns of it.
    select
        activity_date,
        catgroup,
        cast(sum(listings_made) as bigint) as listings_made,
        cast(sum(tickets_listed) as bigint) as tickets_listed,
        cast(sum(sales_made) as bigint) as sales_made,
        cast(sum(tickets_sold) as bigint) as tickets_sold,
        cast(sum(sales_revenue) as decimal(18, 2)) as sales_revenue
    from activity
    where activity_date is not null
    group by activity_date, catgroup

)

select
    activity_date,
    catgroup,
    listings_made,
    tickets_listed,
    sales_made,
    tickets_sold,
    sales_revenue,
    cast(
        sum(tickets_listed - tickets_sold) over (
            partition by catgroup order by activity_date rows between unbounded preceding and current row
        ) as bigint
    ) as tickets_unsold_to_date
from daily
