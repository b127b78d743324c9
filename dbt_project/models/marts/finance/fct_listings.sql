{{ config(materialized='view') }}

with

sold as (

    select
        listid,
        count(*) as sales_made,
        sum(qtysold) as tickets_sold
    from {{ ref('int_sales_latest') }}
    where not is_deleted
    group by listid

)

select
    listings.listid,
    listings.sellerid,
    listings.eventid,
    listings.listtime,
    cast(listings.listtime as date) as list_date,
    listings.numtickets,
    listings.priceperticket,
    listings.totalprice,
    cast(coalesce(events.catgroup, 'Unknown category') as varchar(16)) as catgroup,
    cast(coalesce(sold.sales_made, 0) as bigint) as sales_made,
    cast(coalesce(sold.tickets_sold, 0) as bigint) as tickets_sold
from {{ ref('int_listings_latest') }} as listings
left join {{ ref('int_events_described') }} as events on listings.eventid = events.eventid
left join sold on listings.listid = sold.listid
where not listings.is_deleted
