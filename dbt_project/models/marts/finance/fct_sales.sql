{{ config(materialized='view') }}

select
    sales.salesid,
    sales.listid,
    sales.sellerid,
    sales.buyerid,
    sales.eventid,
    sales.saletime,
    cast(sales.saletime as date) as sale_date,
    cast(extract(year from sales.saletime) as integer) as sale_year,
    cast(extract(quarter from sales.saletime) as integer) as sale_quarter,
    sales.qtysold,
    sales.pricepaid,
    sales.commission,
    -- Null, not 'Unknown event': the quarterly report shows the sales of missing events so.
    events.eventname,
    events.starttime,
    cast(coalesce(events.season, 'Unknown season') as varchar(14)) as season,
    events.season_year,
    cast(coalesce(events.catgroup, 'Unknown category') as varchar(16)) as catgroup,
    cast(coalesce(events.catname, 'Unknown category') as varchar(16)) as catname,
    events.venueid,
    cast(coalesce(events.venuename, 'Unknown venue') as varchar(100)) as venuename,
    events.venuecity,
    events.venuestate,
    events.venueseats,
    sales.changed_at
from {{ ref('int_sales_latest') }} as sales
left join {{ ref('int_events_described') }} as events on sales.eventid = events.eventid
where not sales.is_deleted
