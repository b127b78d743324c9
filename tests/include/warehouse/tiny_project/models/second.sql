with recursive control as (
    select trim(content) as mode from read_text('{{ env_var("TINY_CONTROL") }}')
),
-- one row, or, when told to be slow, more than anybody waits for
counted(i) as (
    select 1
    union all
    select i + 1 from counted where i < (select case mode when 'slow' then 1000000000 else 1 end from control)
)
select case when control.mode <> 'null' then first.id end as id, case when control.mode = 'fail' then error('told to fail') end as complaint
from {{ ref('first') }} as first
cross join control
where (select count(*) from counted) > 0
