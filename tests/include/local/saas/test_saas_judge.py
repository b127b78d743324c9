"""The judge finds what is wrong, and only that; the journal it reads survives a kill."""

from __future__ import annotations

import pytest

from include.local.saas.journal import Entry, Journal, Told, entries
from include.local.saas.judge import judge

KEY = "acme-1:a"


def wrote(value, *, key=KEY, hot=False, told=Told.WRITTEN):
    return Entry(1.0, told, "acme", "Product", key, value, hot, 0)


def deleted(told=Told.DELETED):
    return wrote(None, told=told)


def item(value, owner="acme"):
    return {"sku": f"{owner}/load", "note": str(value), "shardId": "acme-1"}


def verdict(journal, there):
    return judge(journal, lambda tenant, table, key: there.get(key))


def counts(found):
    return found.lost, found.stale, found.foreign


@pytest.mark.parametrize(
    ("journal", "there", "lost", "stale"),
    [
        pytest.param([wrote(7)], {KEY: item(7)}, 0, 0, id="written and there"),
        pytest.param([wrote(7)], {}, 1, 0, id="written and gone"),
        pytest.param([wrote(7)], {KEY: item(6)}, 0, 1, id="written and another value"),
        pytest.param([wrote(7)], {KEY: {"sku": "acme/load"}}, 0, 1, id="written and no value"),
        pytest.param([wrote(7), deleted()], {}, 0, 0, id="deleted and gone"),
        pytest.param([wrote(7), deleted()], {KEY: item(7)}, 0, 1, id="deleted and back"),
        pytest.param([wrote(7), deleted(Told.DELETE_UNCLEAR)], {}, 0, 0, id="perhaps deleted and gone"),
        pytest.param([wrote(7), deleted(Told.DELETE_UNCLEAR)], {KEY: item(7)}, 0, 0, id="perhaps deleted and there"),
        pytest.param([wrote(7), deleted(Told.DELETE_UNCLEAR)], {KEY: item(6)}, 0, 1, id="perhaps deleted and changed"),
        pytest.param([wrote(7, told=Told.WRITE_UNCLEAR)], {}, 0, 0, id="perhaps written and gone"),
        pytest.param([wrote(7, told=Told.WRITE_UNCLEAR)], {KEY: item(7)}, 0, 0, id="perhaps written and there"),
        pytest.param([wrote(7, told=Told.WRITE_UNCLEAR)], {KEY: item(9)}, 0, 1, id="perhaps written and another"),
        pytest.param([wrote(1, hot=True), wrote(2, hot=True)], {KEY: item(2)}, 0, 0, id="hot and the last"),
        pytest.param([wrote(1, hot=True), wrote(2, hot=True)], {KEY: item(3)}, 0, 0, id="hot and one not told of"),
        pytest.param([wrote(1, hot=True), wrote(2, hot=True)], {KEY: item(1)}, 0, 1, id="hot and one before"),
        pytest.param([wrote(1, hot=True), wrote(2, hot=True)], {}, 1, 0, id="hot and gone"),
        pytest.param(
            [wrote(1, hot=True), wrote(2, hot=True, told=Told.WRITE_UNCLEAR)], {KEY: item(1)}, 0, 0, id="hot, unclear"
        ),
        pytest.param(
            [wrote(2, hot=True), wrote(3, hot=True, told=Told.WRITE_UNCLEAR)],
            {KEY: item(1)},
            0,
            1,
            id="hot, unclear, old",
        ),
        pytest.param([wrote(1, told=Told.MISSING)], {}, 0, 1, id="was not there when it was written again"),
        pytest.param([wrote(1, told=Told.READ_STALE)], {}, 0, 1, id="was read too old"),
        pytest.param([wrote(1, told=Told.READ_BEHIND)], {}, 0, 0, id="was read by a cached route"),
    ],
)
def test_each_key_is_judged_by_what_was_acknowledged_last(journal, there, lost, stale):
    assert counts(verdict(journal, there)) == (lost, stale, 0)


def test_the_last_key_of_many_is_judged_as_the_first():
    journal = [wrote(number, key=f"acme-1:{number}") for number in range(50)]
    there = {entry.key: item(entry.value) for entry in journal}
    assert verdict(journal, there).ok
    for missing in (journal[0].key, journal[-1].key):
        found = verdict(journal, {key: value for key, value in there.items() if key != missing})
        assert (found.acknowledged, found.lost) == (50, 1)
        assert missing in found.examples[0]


def test_acknowledged_and_unclear_writes_are_counted():
    found = verdict(
        [wrote(1), wrote(2, key="acme-1:b", told=Told.WRITE_UNCLEAR), deleted(), wrote(3, told=Told.READ_FAILED)], {}
    )
    assert (found.acknowledged, found.ambiguous, found.failed_reads) == (2, 1, 1)


def test_another_tenants_item_is_foreign_wherever_it_turns_up():
    assert verdict([wrote(1, told=Told.READ_FOREIGN)], {}).foreign == 1
    for stray in (item(1, owner="acme-2"), item(1) | {"shardId": "acme-2-1"}):
        found = judge(
            [wrote(1)], lambda *_: item(1), items=lambda _, stray=stray: [("Product", item(1)), ("Product", stray)]
        )
        assert counts(found) == (0, 0, 1)
        assert not found.ok


def test_a_journal_reads_back_what_was_added(tmp_path):
    path = tmp_path / "journal"
    added = [wrote(1), deleted(), Entry(2.5, Told.READ_FAILED, "acme", "Order", "acme-1:🎪\u2028", why="broken")]
    journal = Journal(path)
    for entry in added:
        journal.add(entry)
    journal.close()
    again = Journal(path)
    again.add(wrote(5))
    again.close()
    assert list(entries(path)) == [*added, wrote(5)]


def test_an_unfinished_last_line_is_not_read(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.add(wrote(1))
    journal.close()
    with path.open("a") as file:
        file.write('{"at": 2.0, "told": "wri')
    assert list(entries(path)) == [wrote(1)]
