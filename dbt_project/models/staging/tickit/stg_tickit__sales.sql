select
    cast(salesid as integer) as salesid,
    cast(listid as integer) as listid,
    cast(sellerid as integer) as sellerid,
    cast(buyerid as integer) as buyerid,
    cast(eventid as integer) as eventid,
    cast(dateid as integer) as dateid,
    cast(qtysold as integer) as qtysold,
    cast(pricepaid as decimal(8, 2)) as pricepaid,
    cast(commission as decimal(8, 2)) as commission,
    cast(saletime as timestamp) as saletime,
    {{ history_columns() }}
from {{ source('ops', 'sales') }}
