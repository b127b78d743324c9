select
    cast(venueid as integer) as venueid,
    cast(venuename as varchar(100)) as venuename,
    cast(venuecity as varchar(30)) as venuecity,
    cast(venuestate as varchar(2)) as venuestate,
    cast(venueseats as integer) as venueseats
from {{ source('ops', 'venue') }}
