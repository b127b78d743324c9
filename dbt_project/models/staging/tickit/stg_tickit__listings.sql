select
    cast(listid as integer) as listid,
    cast(sellerid as integer) as sellerid,
    cast(eventid as integer) as eventid,
    cast(dateid as integer) as dateid,
    cast(numtickets as integer) as numtickets,
    cast(priceperticket as decimal(8, 2)) as priceperticket,
    cast(totalprice as decimal(8, 2)) as totalprice,
    cast(listtime as timestamp) as listtime,
    {{ history_columns() }}
from {{ source('ops', 'listing') }}
