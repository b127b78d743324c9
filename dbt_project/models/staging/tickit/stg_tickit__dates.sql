select
    cast(dateid as integer) as dateid,
    cast(caldate as date) as caldate,
    cast(day as varchar(3)) as day,
    cast(week as integer) as week,
    cast(month as varchar(5)) as month,
    cast(qtr as varchar(5)) as qtr,
    cast(year as integer) as year,
    {{ flag('holiday') }} as holiday
from {{ source('ops', 'date') }}
