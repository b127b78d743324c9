"""Makes TICKIT data: deterministic for a seed, vectorised, referentially sound, as large as the public sample.

What it takes care to be like: sellers and buyers differ widely in activity; popular events sell more and dearer;
listings appear in the weeks before an event and sales between the listing and the event, so that ticket movement has
seasons; a listing never sells more tickets than it offers; the commission is 15 %. The calendar has the shape of the
public date file: 2008 in 365 rows, ids 1827 to 2191, without 29 February.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from include.local.tickit.schema import REFERENCES, TABLES

Array = npt.NDArray[Any]
Columns = Mapping[str, Array]
"""One table: column name to values. Text, booleans and nullable columns are object arrays (None is null), timestamps
``datetime64[s]``, dates ``datetime64[D]``, money float64 rounded to cents."""
Tables = Mapping[str, Columns]

COMMISSION_PERCENT: Final = 15
FIRST_DATEID: Final = 1827
_HOLIDAYS: Final = ("2008-01-01", "2008-05-26", "2008-07-04", "2008-09-01", "2008-11-27", "2008-12-25", "2008-12-26")
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_SECONDS_PER_DAY: Final = 86_400
_SALES_SLOTS: Final = 4
"""Most sales a single listing can have."""

_CATEGORIES: Final = (
    (1, "Sports", "MLB", "Major League Baseball"),
    (2, "Sports", "NHL", "National Hockey League"),
    (3, "Sports", "NFL", "National Football League"),
    (4, "Sports", "NBA", "National Basketball Association"),
    (5, "Sports", "MLS", "Major League Soccer"),
    (6, "Shows", "Musicals", "Musical theatre"),
    (7, "Shows", "Plays", "Theatre that is not musical"),
    (8, "Shows", "Opera", "Opera of every kind"),
    (9, "Concerts", "Pop", "Rock and pop concerts"),
    (10, "Concerts", "Jazz", "Jazz singers and bands"),
    (11, "Concerts", "Classical", "Symphonies, concertos and choirs"),
)
_FIRST: Final = (
    "Ada", "Ben", "Cleo", "Dev", "Ella", "Finn", "Gia", "Hugo", "Ines", "Jon", "Kai", "Lena", "Milo", "Nora", "Omar",
    "Pia", "Quinn", "Rosa", "Sam", "Tara", "Uma", "Vito", "Wren", "Yara", "Zane",
)  # fmt: skip
_LAST: Final = (
    "Abbott", "Barnes", "Castro", "Dixon", "Ellis", "Foster", "Garza", "Hodge", "Irwin", "Juarez", "Knox", "Lowe",
    "Mercer", "Nolan", "Ochoa", "Pratt", "Quick", "Reyes", "Short", "Tran",
)  # fmt: skip
_CITIES: Final = (
    ("Austin", "TX"), ("Boston", "MA"), ("Chicago", "IL"), ("Dallas", "TX"), ("Denver", "CO"), ("Fresno", "CA"),
    ("Houston", "TX"), ("Miami", "FL"), ("Nashville", "TN"), ("New York City", "NY"), ("Oakland", "CA"),
    ("Orlando", "FL"), ("Phoenix", "AZ"), ("Portland", "OR"), ("Salem", "OR"), ("Seattle", "WA"),
    ("St. Louis", "MO"), ("Tampa", "FL"), ("Toronto", "ON"), ("Tulsa", "OK"),
)  # fmt: skip
_HALLS: Final = ("Arena", "Stadium", "Theatre", "Opera House", "Music Hall", "Amphitheater", "Center")
_TITLES: Final = {
    "Shows": (
        "The Glass Harbor", "Moonlit Avenue", "Seven Doors", "A Winter Ledger", "Paper Kings", "The Understudy",
        "Don Alonso", "The Blue Lantern",
    ),
    "Concerts": (
        "Violet Static", "The Low Tides", "Marlow Quartet", "Northern Brass", "Copper Hymns", "Ruth Vale",
        "Signal Fires", "The Evening Choir",
    ),
    "Sports": ("Season Opener", "Derby", "Playoff", "All-Star Game"),
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Rows per table. Venues, categories and dates are always 202, 11 and 365, as in the public sample."""

    users: int
    events: int
    listings: int
    sales: int
    venues: int = 202


SIZES: Final = {
    "full": Size(users=49_990, events=8_798, listings=192_497, sales=172_456),
    "small": Size(users=500, events=200, listings=2_000, sales=1_800),
}


def generate(size: str | Size = "full", *, seed: int = 2008, given: Tables | None = None) -> dict[str, Columns]:
    """Make the seven tables; those in ``given`` are taken as they are and the others made to refer to them.

    Each table has its own random stream, so giving one does not change what is drawn for another.

    Args:
        size: ``full``, ``small`` or row counts.
        seed: same seed, same data.
        given: tables read from files, by name.

    Returns:
        All seven tables, in the order of `schema.TABLES`.

    Raises:
        ValueError: there is no such size, or a given parent table has no rows to refer to.
    """
    if isinstance(size, str) and size not in SIZES:
        raise ValueError(f"size: expected one of {sorted(SIZES)}, found {size!r}")
    rows = SIZES[size] if isinstance(size, str) else size
    tables: dict[str, Columns] = dict(given or {})
    makers: dict[str, Callable[[np.random.Generator], Columns]] = {
        "users": lambda rng: _users(rng, _enough(rows.users, "users", tables)),
        "venue": lambda rng: _venues(rng, _enough(rows.venues, "venue", tables)),
        "category": lambda _: _categories(),
        "date": lambda _: _dates(),
        "event": lambda rng: _events(rng, _enough(rows.events, "event", tables), tables),
        "listing": lambda rng: _listings(rng, _enough(rows.listings, "listing", tables), tables),
        "sales": lambda rng: _sales(rng, rows.sales, tables),
    }
    for index, name in enumerate(TABLES):
        if name not in tables:
            tables[name] = makers[name](np.random.default_rng([seed, index]))
        elif not len(tables[name][TABLES[name].key]):
            raise ValueError(
                f"table {name}: expected rows for the missing tables to refer to, found none; "
                "give a file with rows or leave it out"
            )
    return {name: tables[name] for name in TABLES}


def _enough(rows: int, parent: str, tables: Tables) -> int:
    """At least ``rows``, and as many as it takes to have every row that the given tables refer to (ids start at 1)."""
    references = [tables[child][column] for child, column, to in REFERENCES if to == parent and child in tables]
    return max([rows, *(int(values.max()) for values in references)])


def _pick(rng: np.random.Generator, choices: tuple[str, ...] | list[str], count: int) -> Array:
    return np.array(choices, dtype=object)[rng.integers(0, len(choices), count)]


def _skewed(rng: np.random.Generator, values: Array, count: int, sigma: float) -> Array:
    """Draw ``count`` of ``values``, some far oftener than others (log-normal weights)."""
    weights = rng.lognormal(0.0, sigma, len(values))
    drawn: Array = values[
        np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(count)).clip(max=len(values) - 1)
    ]
    return drawn


def _users(rng: np.random.Generator, count: int) -> Columns:
    ids = np.arange(1, count + 1)
    home = np.array(_CITIES, dtype=object)[rng.integers(0, len(_CITIES), count)]
    first, last = _pick(rng, _FIRST, count), _pick(rng, _LAST, count)
    letters = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"), dtype=object)[rng.integers(0, 24, (count, 3))].sum(axis=1)
    area, exchange, line = rng.integers(200, 999, count), rng.integers(200, 999, count), rng.integers(0, 9999, count)
    users: dict[str, Array] = {
        "userid": ids,
        "username": np.array([f"{prefix}{i:05d}" for prefix, i in zip(letters, ids, strict=True)], dtype=object),
        "firstname": first,
        "lastname": last,
        "city": home[:, 0],
        "state": home[:, 1],
        "email": np.array(
            [f"{f}.{n}{i}@example.com".lower() for f, n, i in zip(first, last, ids, strict=True)], dtype=object
        ),
        "phone": np.array([f"({a}) {e}-{n:04d}" for a, e, n in zip(area, exchange, line, strict=True)], dtype=object),
    }
    answers = np.array([1, 0, None], dtype=object)  # many users leave a question open
    for column in TABLES["users"].columns:
        if column.boolean:
            users[column.name] = answers[rng.choice(3, count, p=(0.25, 0.35, 0.40))]
    return users


def _venues(rng: np.random.Generator, count: int) -> Columns:
    home = np.array(_CITIES, dtype=object)[rng.integers(0, len(_CITIES), count)]
    hall = _pick(rng, _HALLS, count)
    seats = (rng.integers(20, 900, count) * 100).astype(object)
    seats[rng.random(count) < 0.07] = None
    return {
        "venueid": np.arange(1, count + 1),
        "venuename": np.array(
            [f"{city} {kind} {i}" for i, (city, kind) in enumerate(zip(home[:, 0], hall, strict=True), 1)], dtype=object
        ),
        "venuecity": home[:, 0],
        "venuestate": home[:, 1],
        "venueseats": seats,
    }


def _categories() -> Columns:
    columns = zip(*_CATEGORIES, strict=True)
    ids, *texts = columns
    names = TABLES["category"].column_names
    return {
        names[0]: np.array(ids),
        **{name: np.array(values, dtype=object) for name, values in zip(names[1:], texts, strict=True)},
    }


def _dates() -> Columns:
    days = np.arange(np.datetime64("2008-01-01"), np.datetime64("2009-01-01"))
    days = days[days != np.datetime64("2008-02-29")]
    index = np.arange(len(days))
    months = days.astype("datetime64[M]").astype(int) % 12
    month_names = np.array(_MONTHS, dtype=object)
    day_names = np.array(_WEEKDAYS, dtype=object)
    return {
        "dateid": FIRST_DATEID + index,
        "caldate": days,
        "day": day_names[
            (index + 2) % 7
        ],  # the public file counts week days without 29 February, back from a true 31 December
        "week": 1 + (index + 4) // 7,
        "month": month_names[months],
        "qtr": np.array(["1", "2", "3", "4"], dtype=object)[months // 3],
        "year": np.full(len(days), 2008),
        "holiday": np.isin(days, np.array(_HOLIDAYS, dtype="datetime64[D]")).astype(int),
    }


def _events(rng: np.random.Generator, count: int, tables: Tables) -> Columns:
    dates, category = tables["date"], tables["category"]
    season = 1.0 + 0.35 * np.sin(
        np.linspace(-0.5 * np.pi, 1.5 * np.pi, len(dates["dateid"]))
    )  # summer and autumn are busiest
    day = rng.choice(len(dates["dateid"]), count, p=season / season.sum())
    cat = rng.integers(0, len(category["catid"]), count)
    # Only shows and concerts are in the public events; sports stay a category without events.
    staged = np.flatnonzero(category["catgroup"] != "Sports")
    if len(staged):
        cat = staged[rng.integers(0, len(staged), count)]
    titles = [_TITLES.get(str(group), _TITLES["Shows"]) for group in category["catgroup"][cat]]
    pick, part = rng.random(count), rng.integers(1, 40, count)
    start = np.array([14 * 60, 14 * 60 + 30, 15 * 60, 19 * 60, 19 * 60 + 30, 20 * 60])[rng.integers(0, 6, count)] * 60
    return {
        "eventid": np.arange(1, count + 1),
        "venueid": _skewed(rng, tables["venue"]["venueid"], count, 0.6),
        "catid": category["catid"][cat],
        "dateid": dates["dateid"][day],
        "eventname": np.array(
            [f"{t[int(p * len(t))]} {n}" for t, p, n in zip(titles, pick, part, strict=True)], dtype=object
        ),
        "starttime": dates["caldate"][day].astype("datetime64[s]") + start.astype("timedelta64[s]"),
    }


def _listings(rng: np.random.Generator, count: int, tables: Tables) -> Columns:
    dates, events = tables["date"], tables["event"]
    event_ids = events["eventid"]
    event = _skewed(rng, np.arange(len(event_ids)), count, 0.8)
    event_day = _day_index(dates, events["starttime"].astype("datetime64[D]")[event])
    lead = rng.gamma(2.0, 14.0, count).astype(int)  # most tickets are offered two to six weeks ahead
    day = (event_day - lead).clip(min=0)
    appeal = rng.lognormal(0.0, 0.45, len(event_ids))[event]
    price = np.rint((90.0 * appeal * rng.lognormal(0.6, 0.6, count)).clip(20, 2_500))
    tickets = np.minimum(1 + rng.negative_binomial(2, 0.18, count), 30)
    return {
        "listid": np.arange(1, count + 1),
        "sellerid": _skewed(rng, tables["users"]["userid"], count, 1.2),
        "eventid": event_ids[event],
        "dateid": dates["dateid"][day],
        "numtickets": tickets,
        "priceperticket": price,
        "totalprice": price * tickets,
        "listtime": _moment(rng, dates, day),
    }


def _sales(rng: np.random.Generator, count: int, tables: Tables) -> Columns:
    dates, events, listings = tables["date"], tables["event"], tables["listing"]
    slots = np.minimum(_SALES_SLOTS, listings["numtickets"])
    if count > slots.sum():
        raise ValueError(
            f"sales: expected at most {slots.sum()} for {len(slots)} listings, found {count}; ask for fewer sales"
        )
    slot_listing = np.repeat(np.arange(len(slots)), slots)
    # A listing sells the likelier, the better its seller and the lower its price: weighted draw without replacement.
    sellers, seller = np.unique(listings["sellerid"], return_inverse=True)
    price = np.nan_to_num(_as_float(listings["priceperticket"]))
    weight = rng.beta(2.0, 2.0, len(sellers))[seller] * (100.0 / price.clip(min=1.0)) ** 0.3
    keys = rng.exponential(1.0, len(slot_listing)) / weight[slot_listing].clip(min=1e-9)
    listing = np.sort(slot_listing[np.argpartition(keys, count - 1)[:count]])
    share = (listings["numtickets"] // slots)[listing]
    quantity = 1 + (rng.random(count) ** 2 * np.minimum(share, 8)).astype(int)
    paid = np.rint(price[listing] * 100).astype(np.int64) * quantity
    commission = (paid * COMMISSION_PERCENT + 50) // 100
    listed = _day_index(dates, listings["listtime"].astype("datetime64[D]")[listing])
    order = np.argsort(events["eventid"], kind="stable")
    event = order[np.searchsorted(events["eventid"], listings["eventid"][listing], sorter=order)]
    event_day = np.maximum(_day_index(dates, events["starttime"].astype("datetime64[D]")[event]), listed)
    day = listed + (rng.beta(1.2, 1.6, count) * (event_day - listed + 1)).astype(int)
    seller_of = listings["sellerid"][listing]
    users = tables["users"]["userid"]
    buyer = _skewed(rng, users, count, 1.0)
    position = np.searchsorted(np.sort(users), buyer)
    buyer = np.where((buyer == seller_of) & (len(users) > 1), np.sort(users)[(position + 1) % len(users)], buyer)
    return {
        "salesid": np.arange(1, count + 1),
        "listid": listings["listid"][listing],
        "sellerid": seller_of,
        "buyerid": buyer,
        "eventid": listings["eventid"][listing],
        "dateid": dates["dateid"][day],
        "qtysold": quantity,
        "pricepaid": paid / 100,
        "commission": commission / 100,
        "saletime": np.maximum(_moment(rng, dates, day), listings["listtime"][listing]),
    }


def _day_index(dates: Columns, days: Array) -> Array:
    """The row of each day in the date table; a day it lacks (29 February) counts as the next it has."""
    index: Array = np.searchsorted(dates["caldate"].astype("datetime64[D]"), days).clip(max=len(dates["caldate"]) - 1)
    return index


def _moment(rng: np.random.Generator, dates: Columns, day: Array) -> Array:
    seconds = rng.integers(0, _SECONDS_PER_DAY, len(day)).astype("timedelta64[s]")
    moment: Array = dates["caldate"][day].astype("datetime64[s]") + seconds
    return moment


def _as_float(values: Array) -> Array:
    """Numbers as floats; null, which a loaded column may hold, as NaN."""
    return np.array([np.nan if value is None else value for value in values.tolist()], dtype=float)
