select
    cast(catid as integer) as catid,
    cast(catgroup as varchar(10)) as catgroup,
    cast(catname as varchar(10)) as catname,
    cast(catdesc as varchar(50)) as catdesc
from {{ source('ops', 'category') }}
