-- Left joins only: an event of an unknown venue, category or day is still an event.
with

dated as (

    select
        events.eventid,
        events.eventname,
        events.starttime,
        events.venueid,
        events.catid,
        coalesce(dates.caldate, cast(events.starttime as date)) as event_date
    from {{ ref('stg_tickit__events') }} as events
    left join {{ ref('stg_tickit__dates') }} as dates on events.dateid = dates.dateid

)

select
    dated.eventid,
    dated.eventname,
    dated.starttime,
    dated.event_date,
    cast(coalesce({{ season_of('dated.event_date') }}, 'Unknown season') as varchar(14)) as season,
    {{ season_year_of('dated.event_date') }} as season_year,
    dated.catid,
    cast(coalesce(categories.catgroup, 'Unknown category') as varchar(16)) as catgroup,
    cast(coalesce(categories.catname, 'Unknown category') as varchar(16)) as catname,
    dated.venueid,
    cast(coalesce(venues.venuename, 'Unknown venue') as varchar(100)) as venuename,
    venues.venuecity,
    venues.venuestate,
    venues.venueseats
from dated
left join {{ ref('stg_tickit__categories') }} as categories on dated.catid = categories.catid
left join {{ ref('stg_tickit__venues') }} as venues on dated.venueid = venues.venueid
