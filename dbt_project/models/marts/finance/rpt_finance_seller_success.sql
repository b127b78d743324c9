{{ redshift_keys(dist='sellerid', sort=['sellerid']) }}

with

activity as (

    select
        sellerid,
        1 as listings_made,
        case when sales_made > 0 then 1 else 0 end as listings_sold,
        numtickets as tickets_listed,
        0 as sales_made,
        0 as tickets_sold,
        cast(0 as decimal(8, 2)) as sales_revenue,
        cast(0 as decimal(8, 2)) as staff_commission
    from {{ ref('fct_listings') }}

    union all

    select
        sellerid,
        0 as listings_made,
        0 as listings_sold,
        0 as tickets_listed,
        1 as sales_made,
        qtysold as tickets_sold,
        pricepaid as sales_revenue,
        commission as staff_commission
    from {{ ref('fct_sales') }}

),

sellers as (

    select
        sellerid,
        cast(sum(listings_made) as bigint) as listings_made,
        cast(sum(listings_sold) as bigint) as listings_sold,
        cast(sum(tickets_listed) as bigint) as tickets_listed,
        cast(sum(sales_made) as bigint) as sales_made,
        cast(sum(tickets_sold) as bigint) as tickets_sold,
        cast(sum(sales_revenue) as decimal(18, 2)) as sales_revenue,
        cast(sum(staff_commission) as decimal(18, 2)) as staff_commission
    from activity
    group by sellerid

)

select
    sellers.sellerid,
    users.username,
    users.city,
    users.state,
    sellers.listings_made,
    sellers.listings_sold,
    sellers.tickets_listed,
    sellers.sales_made,
    sellers.tickets_sold,
    sellers.sales_revenue,
    sellers.staff_commission,
    {{ exact_ratio('sellers.listings_sold', 'sellers.listings_made') }} as listing_success_rate,
    {{ exact_ratio('sellers.tickets_sold', 'sellers.tickets_listed') }} as ticket_success_rate
from sellers
left join {{ ref('stg_tickit__users') }} as users on sellers.sellerid = users.userid
