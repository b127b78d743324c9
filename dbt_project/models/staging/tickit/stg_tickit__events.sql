select
    cast(eventid as integer) as eventid,
    cast(venueid as integer) as venueid,
    cast(catid as integer) as catid,
    cast(dateid as integer) as dateid,
    cast(eventname as varchar(200)) as eventname,
    cast(starttime as timestamp) as starttime
from {{ source('ops', 'event') }}
