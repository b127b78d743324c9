"""The column lineage of one query: each way in which a column can have its part in another."""

import pytest

from include.catalog.column_lineage import ColumnLineageError, ColumnRef
from include.local.lineage.query import query_lineage

TABLES = {
    ("dev", "s", "sales"): ["id", "seller", "event", "price", "fee", "sold_at", "gone"],
    ("dev", "s", "event"): ["event", "name", "city"],
}


def lineage(sql, dialect="redshift"):
    return query_lineage(sql, dialect, TABLES, ".".join)


def told(origins):
    return {f"{ref.node.rpartition('.')[2]}.{ref.column}": " ".join(sorted(kinds)) for ref, kinds in origins.items()}


def columns(sql, dialect="redshift"):
    found = lineage(sql, dialect).columns
    return {name: told(origin.inputs) or origin.reason for name, origin in found.items()}


def column(expression, rest="from dev.s.sales as s"):
    return columns(f"select {expression} as x {rest}")["x"]


SALES = "from dev.s.sales"
JOINED = "from dev.s.sales as s join dev.s.event as e on s.event = e.event"
GROUPED = "from dev.s.sales as s where not gone group by seller"


@pytest.mark.parametrize(
    ("expression", "rest", "inputs"),
    [
        ("s.price", JOINED, {"sales.price": "IDENTITY"}),
        ("(price)", GROUPED + ", price", {"sales.price": "IDENTITY"}),
        ("price + fee", SALES, {"sales.price": "TRANSFORMATION", "sales.fee": "TRANSFORMATION"}),
        ("cast(price as integer)", SALES, {"sales.price": "TRANSFORMATION"}),
        ("sum(price)", GROUPED, {"sales.price": "AGGREGATION"}),
        ("round(sum(price + 1), 2)", GROUPED, {"sales.price": "AGGREGATION"}),
        ("count(distinct event)", GROUPED, {"sales.event": "AGGREGATION"}),
        ("count(*)", GROUPED, {"sales.seller": "GROUP_BY", "sales.gone": "FILTER"}),
        ("sum(1)", GROUPED, {"sales.seller": "GROUP_BY", "sales.gone": "FILTER"}),
        (
            "count(*) + max(fee)",
            GROUPED,
            {"sales.seller": "GROUP_BY", "sales.gone": "FILTER", "sales.fee": "AGGREGATION"},
        ),
        ("count(*)", SALES, "counts rows"),
        ("'shop'", SALES, "constant"),
        ("cast(null as timestamp)", "from dev.s.sales where gone", "constant"),
        ("case when gone then price end", SALES, {"sales.gone": "CONDITIONAL", "sales.price": "TRANSFORMATION"}),
        (
            "case seller when 1 then fee else price end",
            SALES,
            {"sales.seller": "CONDITIONAL", "sales.fee": "TRANSFORMATION", "sales.price": "TRANSFORMATION"},
        ),
        (
            "sum(case when gone then price else 0 end)",
            GROUPED,
            {"sales.gone": "CONDITIONAL", "sales.price": "AGGREGATION"},
        ),
        ("case when price > 5 then price end", SALES, {"sales.price": "CONDITIONAL TRANSFORMATION"}),
        (
            "rank() over (partition by seller order by price)",
            SALES,
            {"sales.seller": "WINDOW", "sales.price": "WINDOW"},
        ),
        (
            "sum(fee) over (partition by seller order by sold_at)",
            SALES,
            {"sales.fee": "AGGREGATION", "sales.seller": "WINDOW", "sales.sold_at": "WINDOW"},
        ),
        ("lag(fee) over (order by sold_at)", SALES, {"sales.fee": "TRANSFORMATION", "sales.sold_at": "WINDOW"}),
        ("row_number() over ()", "from dev.s.sales where gone", {"sales.gone": "FILTER"}),
        (
            "row_number() over (order by case when gone then 1 else sold_at end)",
            SALES,
            {"sales.gone": "WINDOW", "sales.sold_at": "WINDOW"},
        ),
        ("coalesce(e.name, 'unknown')", JOINED, {"event.name": "TRANSFORMATION"}),
        ("(select max(name) from dev.s.event)", SALES, {"event.name": "AGGREGATION"}),
        (
            "(select max(e.name) from dev.s.event as e where e.event = s.event)",
            "from dev.s.sales as s",
            {"event.name": "AGGREGATION", "event.event": "FILTER", "sales.event": "FILTER"},
        ),
    ],
)
def test_how_an_input_has_its_part_follows_from_where_it_stands(expression, rest, inputs):
    assert column(expression, rest) == inputs


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select id from dev.s.sales", {}),
        ("select id from dev.s.sales where gone and fee > 1", {"sales.gone": "FILTER", "sales.fee": "FILTER"}),
        (f"select s.id {JOINED}", {"sales.event": "JOIN", "event.event": "JOIN"}),
        ("select id from dev.s.sales join dev.s.event using (event)", {"sales.event": "JOIN", "event.event": "JOIN"}),
        (
            "select seller from dev.s.sales group by seller having sum(fee) > 1",
            {"sales.seller": "GROUP_BY", "sales.fee": "FILTER"},
        ),
        ("select seller from dev.s.sales group by 1", {"sales.seller": "GROUP_BY"}),
        ("select distinct seller from dev.s.sales", {"sales.seller": "GROUP_BY"}),
        ("select id from dev.s.sales order by sold_at limit 3", {"sales.sold_at": "SORT"}),
        (
            "select id from dev.s.sales where event in (select event from dev.s.event where city = 'x')",
            {"sales.event": "FILTER", "event.event": "FILTER", "event.city": "FILTER"},
        ),
        (
            "select id from dev.s.sales as s where exists (select 1 from dev.s.event as e where e.event = s.event)",
            {"sales.event": "FILTER", "event.event": "FILTER"},
        ),
        ("select id from dev.s.sales qualify rank() over (order by fee) = 1", {"sales.fee": "FILTER"}),
        (
            "select id from dev.s.sales union select event from dev.s.event",
            {"sales.id": "GROUP_BY", "event.event": "GROUP_BY"},
        ),
        (
            "select id from dev.s.sales union all select event from dev.s.event where city = 'x'",
            {"event.city": "FILTER"},
        ),
        (
            "select id from dev.s.sales except select event from dev.s.event",
            {"sales.id": "FILTER", "event.event": "FILTER"},
        ),
        (
            "with a as (select id, event from dev.s.sales where gone) select a.id from a join dev.s.event as e on a.event = e.event",
            {"sales.gone": "FILTER", "sales.event": "JOIN", "event.event": "JOIN"},
        ),
    ],
)
def test_what_decides_which_rows_there_are(sql, rows):
    assert told(lineage(sql).rows) == rows


def test_parts_are_joined_through_queries_inside_and_stars():
    sql = """
    with sold as (select * from dev.s.sales where not gone),
    totals as (select event, sum(price) as revenue, count(*) as made from sold group by event),
    ranked as (select totals.*, rank() over (order by revenue desc) as place from totals)
    select e.name, r.*, r.revenue / nullif(r.made, 0) as mean from ranked as r left join dev.s.event as e on r.event = e.event
    """
    made = {"sales.event": "GROUP_BY", "sales.gone": "FILTER"}
    assert columns(sql) == {
        "name": {"event.name": "IDENTITY"},
        "event": {"sales.event": "IDENTITY"},
        "revenue": {"sales.price": "AGGREGATION"},
        "made": made,
        "place": {"sales.price": "WINDOW"},
        "mean": {"sales.price": "AGGREGATION", **made},
    }


def test_a_query_that_reads_itself_comes_from_where_it_begins():
    sql = (
        "with recursive a as (select id from dev.s.sales union all select id + 1 from a where id < 9) select id from a"
    )
    assert columns(sql) == {"id": {"sales.id": "IDENTITY TRANSFORMATION"}}


def test_a_union_takes_from_both_sides_by_position_and_constants_of_one_side_add_nothing():
    sql = "select id as x, 1 as made, fee from dev.s.sales union all select event, 0, 0 from dev.s.event"
    assert columns(sql) == {
        "x": {"sales.id": "IDENTITY", "event.event": "IDENTITY"},
        "made": "constant",
        "fee": {"sales.fee": "IDENTITY"},
    }


def test_an_except_has_the_values_of_its_left_side():
    assert columns("select id as x from dev.s.sales except select event from dev.s.event") == {
        "x": {"sales.id": "IDENTITY"}
    }


def test_a_sum_of_constants_says_which_rows_there_are():
    sql = """
    with both as (select seller, 1 as made from dev.s.sales union all select event, 0 from dev.s.event)
    select seller, sum(made) as made from both group by seller
    """
    assert columns(sql)["made"] == {"sales.seller": "GROUP_BY", "event.event": "GROUP_BY"}


@pytest.mark.parametrize("dialect", ["redshift", "duckdb"])
def test_names_have_no_case(dialect):
    assert columns('select S.PRICE as "total" from DEV.S.SALES as S', dialect) == {"total": {"sales.price": "IDENTITY"}}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select nothing from dev.s.sales", "of known columns, found: .*nothing"),
        ("select price from dev.s.sales as a join dev.s.sales as b on true", "of known columns, found: .*price"),
        ("select event from dev.s.sales join dev.s.event on true", "name the column's table"),
        ("select id from", "expected a query in redshift"),
        ("select x from dev.s.elsewhere", "of known columns"),
        ("create table x as select 1 as y", "expected a query, found create"),
        ("select v.x from (values (1), (2)) as v (x)", "teach include/local/lineage/query.py"),
    ],
)
def test_what_cannot_be_told_is_refused_and_never_left_out(sql, words):
    with pytest.raises(ColumnLineageError, match=words):
        lineage(sql)


def test_references_are_to_dbts_nodes():
    found = query_lineage("select id from dev.s.sales", "redshift", TABLES, lambda relation: f"model.p.{relation[2]}")
    assert list(found.columns["id"].inputs) == [ColumnRef("model.p.sales", "id")]
