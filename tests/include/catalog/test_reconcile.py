"""Spool and catalog compared: whatever happened between them, every event is accounted for and what is missing arrives once."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from data_platform.lineage.events import client_token, parse_event
from data_platform.lineage.naming import Naming
from data_platform.lineage.size import MAX_BYTES
from data_platform.lineage.spool import SpoolConfig, SpoolTransport
from data_platform.lineage.store import open_store
from include.catalog.api import Patience
from include.catalog.reconcile import (
    KNOWN,
    CatalogUnreachable,
    Index,
    LedgerDoesNotAddUp,
    Options,
    Reconciler,
)
from include.catalog.reconcile_catalog import CatalogEvent, LineageCatalog
from include.catalog.spool import Hour, Ledger, Pending, Reject, Spool
from include.local.catalog.faults import PROCESSING
from include.local.catalog.trial import trial_catalog
from tests.plugins.lineage.events import MOMENT, NAMES, as_json, run_event

LATER = MOMENT.replace(microsecond=0) + timedelta(minutes=10)
AT_ONCE = Options(events_per_second=0)


@pytest.fixture(scope="module")
def served():
    with trial_catalog() as catalog:
        yield catalog


@pytest.fixture(scope="module")
def client(served):
    return served.client(read_timeout=2, connect_timeout=1)


@pytest.fixture
def catalog(served):
    served.reset()
    return served


class Bench:
    """A spool in a folder, the catalog, and a clock."""

    def __init__(self, folder, catalog, client):
        self.folder, self.catalog, self.client, self.now = folder, catalog, client, LATER
        self.transport = SpoolTransport(SpoolConfig.from_dict({"url": folder.as_uri()}))
        self.spool = Spool(open_store(folder.as_uri()))
        self.waits = []

    def emit(self, moment=MOMENT, **event):
        made = run_event(moment, **event)
        self.transport.emit(made)
        return made

    def reconcile(self, options=AT_ONCE, **changes):
        catalog = LineageCatalog(self.client, self.catalog.domain_id, pause=self.waits.append, jitter=lambda: 1.0)
        names = Naming.from_properties(NAMES)
        options = replace(options, **changes)
        return Reconciler(self.spool, catalog, names, options, now=lambda: self.now, pause=self.waits.append).run()

    def ledger(self, moment=MOMENT) -> Ledger:
        return self.spool.ledger(Hour.of(moment))

    def posted(self) -> Counter:
        """How often each token was sent."""
        return Counter(token for token, _ in self.catalog.posted)


@pytest.fixture
def bench(tmp_path, catalog, client):
    return Bench(tmp_path, catalog, client)


def sums(report):
    return report.spooled, report.accepted, report.rejected, report.pending


def test_what_the_catalog_lacks_is_sent_once_and_accepted_by_the_next_run(bench):
    events = [bench.emit() for _ in range(3)]
    first = bench.reconcile()
    assert (sums(first), first.replayed) == ((3, 0, 0, 3), 3)
    second = bench.reconcile()
    assert (sums(second), second.replayed) == ((3, 3, 0, 0), 0)
    assert bench.posted() == {client_token(event): 1 for event in events}


def test_what_is_sent_again_is_what_the_task_would_have_sent(bench):
    from openlineage.client import OpenLineageClient

    from data_platform.lineage.config import transport_config

    option = transport_config(
        spool=bench.folder.as_uri(),
        domain_id=bench.catalog.domain_id,
        catalog_endpoint=bench.catalog.url,
        region="us-east-1",
        account_id="123456789012",
    )
    event = run_event(sql="ü" * MAX_BYTES)
    OpenLineageClient(config={"transport": option}).emit(event)
    (sent,) = bench.catalog.posted
    bench.catalog.forget()
    bench.reconcile()
    assert bench.catalog.posted == [sent, sent]


def test_what_the_catalog_has_already_is_not_sent_again(bench):
    event = bench.emit()
    bench.client.post_lineage_event(
        domainIdentifier=bench.catalog.domain_id, event=json.dumps(as_json(event)), clientToken=client_token(event)
    )
    assert sums(bench.reconcile()) == (1, 1, 0, 0)
    assert sum(bench.posted().values()) == 1


def test_every_page_of_the_catalogs_list_is_read(bench):
    events = [bench.emit(MOMENT + timedelta(seconds=number)) for number in range(101)]
    bench.reconcile()
    assert sums(bench.reconcile()) == (101, 101, 0, 0)
    assert set(bench.posted().values()) == {1}
    assert len(bench.posted()) == len(events)


def test_what_became_of_sent_events_is_read_from_the_list_not_asked_one_by_one(bench):
    for number in range(3):
        bench.emit(MOMENT + timedelta(microseconds=number))  # which the catalog does not tell apart
    bench.reconcile()
    assert sums(bench.reconcile()) == (3, 3, 0, 0)
    assert bench.catalog.asked("GetLineageEvent") == 0


def test_an_accepted_answer_that_was_lost_is_found_in_the_catalog(bench):
    bench.emit()
    bench.catalog.fault("PostLineageEvent", drop="answer", times=1)
    bench.reconcile()
    assert sums(bench.reconcile()) == (1, 1, 0, 0)
    assert len(bench.catalog.events) == 1, "the same token is the same event"


def test_an_event_that_is_being_processed_is_pending_until_it_is_done(bench):
    bench.emit()
    bench.catalog.fault(PROCESSING, outcome="PROCESSING")
    bench.reconcile()
    report = bench.reconcile()
    assert (sums(report), report.replayed) == ((1, 0, 0, 1), 0)
    bench.now += timedelta(days=1)
    assert sums(bench.reconcile()) == (1, 0, 0, 1), "an hour with pending events stays under watch"
    bench.catalog.clear()
    assert sums(bench.reconcile()) == (1, 1, 0, 0)
    assert bench.reconcile().hours == 0, "then it is done with"


def test_an_event_that_the_catalog_took_but_does_not_list_is_asked_for_by_its_id(bench):
    bench.emit()
    bench.reconcile()
    bench.catalog.service.store.run("UPDATE events SET moment = moment + ?", 10 * 86400 * 10**6)
    report = bench.reconcile()
    assert (sums(report), report.replayed) == ((1, 1, 0, 0), 0)


def test_an_event_that_the_catalog_failed_to_process_is_rejected_with_job_run_and_id(bench):
    event = bench.emit()
    bench.catalog.fault(PROCESSING, outcome="FAILED")
    bench.reconcile()
    assert sums(bench.reconcile()) == (1, 0, 1, 0)
    (reject,) = bench.spool.new_rejects()
    assert (reject.job, reject.run_id, reject.event_type) == (event.job.name, event.run.runId, "COMPLETE")
    assert bench.catalog.events[0]["id"] in reject.reason


def test_a_refused_event_is_rejected_and_the_next_ones_are_sent(bench):
    for _ in range(3):
        bench.emit()
    bench.catalog.fault("PostLineageEvent", status=400, code="ValidationException", times=1)
    report = bench.reconcile()
    assert (sums(report), report.replayed) == ((3, 0, 1, 2), 2)
    assert sums(bench.reconcile()) == (3, 2, 1, 0)
    assert "ValidationException" in bench.spool.new_rejects()[0].reason


def test_an_event_that_is_too_large_is_rejected_without_asking(bench):
    bench.emit(job="j" * MAX_BYTES)
    assert sums(bench.reconcile()) == (1, 0, 1, 0)
    assert bench.spool.new_rejects()[0].reason.startswith("too large: expected at most 300000 bytes")
    assert not bench.catalog.posted


def test_a_reject_is_told_once_and_sent_again_only_when_somebody_says_so(bench):
    event = bench.emit()
    bench.catalog.fault(PROCESSING, outcome="FAILED")
    for _ in range(2):
        bench.reconcile()
    bench.spool.mark_told(bench.spool.new_rejects())
    report = bench.reconcile()
    assert (sums(report), report.replayed, bench.spool.new_rejects()) == ((1, 0, 1, 0), 0, [])
    bench.catalog.clear()
    assert bench.reconcile(retry_rejected=True, since=MOMENT).replayed == 1
    assert sums(bench.reconcile()) == (1, 1, 0, 0)
    assert bench.posted() == {client_token(event): 1, client_token(event) + "-1": 1}


def test_a_retried_reject_that_fails_again_is_told_again(bench):
    bench.emit()
    bench.catalog.fault("PostLineageEvent", status=400, code="ValidationException")
    bench.reconcile()
    bench.spool.mark_told(bench.spool.new_rejects())
    bench.reconcile(retry_rejected=True, since=MOMENT)
    assert [reject.attempt for reject in bench.spool.new_rejects()] == [1]


def test_throttling_is_waited_out_with_growing_jittered_waits(bench):
    bench.emit()
    bench.catalog.fault("PostLineageEvent", status=429, code="ThrottlingException", times=3)
    assert bench.reconcile().replayed == 1
    assert bench.waits == [0.5, 1.0, 2.0]
    calm = Patience("it", pause=bench.waits.append, jitter=lambda: 0.0)
    answers = iter([OSError("busy"), {"id": "a"}])

    def call():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert calm.call(call) == {"id": "a"}
    assert bench.waits[-1] == 0.25


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalServerException"), (429, "ThrottlingException"), (403, "AccessDeniedException")]
)
def test_a_catalog_that_takes_nothing_now_leaves_all_pending_and_is_not_asked_for_each(bench, status, code, caplog):
    for _ in range(5):
        bench.emit()
    bench.catalog.fault("PostLineageEvent", status=status, code=code)
    with caplog.at_level(logging.WARNING):
        assert sums(bench.reconcile()) == (5, 0, 0, 5)
    assert code in caplog.text
    assert bench.catalog.asked("PostLineageEvent") <= 5
    bench.catalog.clear()
    assert bench.reconcile().replayed == 5
    assert sums(bench.reconcile()) == (5, 5, 0, 0)


def test_a_catalog_that_is_down_fails_the_task_only_after_the_limit(bench):
    for _ in range(2):
        bench.emit()
    bench.reconcile()
    bench.reconcile()
    bench.emit(MOMENT + timedelta(minutes=1))
    bench.catalog.fault("ListLineageEvents", status=500, code="InternalServerException")
    report = bench.reconcile()
    assert (sums(report), report.unreachable_since) == ((3, 2, 0, 1), LATER.isoformat(timespec="seconds"))
    bench.now += timedelta(hours=1)
    bench.reconcile()
    bench.now += timedelta(seconds=1)
    with pytest.raises(
        CatalogUnreachable, match=r"silent since 2026-01-31T08:40:00.*1 events wait in the spool, none is lost"
    ):
        bench.reconcile()
    bench.catalog.clear()
    bench.reconcile()
    assert (sums(bench.reconcile()), bench.spool.watermark().unreachable_since) == ((3, 3, 0, 0), "")


def test_a_domain_that_is_not_there_rejects_no_event(bench):
    bench.emit()
    bench.catalog.fault("PostLineageEvent", status=404, code="ResourceNotFoundException")
    report = bench.reconcile()
    assert sums(report) == (1, 0, 0, 1)
    assert "ResourceNotFound" in report.unreachable


def test_a_run_sends_no_more_than_it_may_and_the_next_one_goes_on(bench):
    for _ in range(5):
        bench.emit()
    report = bench.reconcile(max_events=2)
    assert (report.replayed, report.pending) == (2, 5)
    assert report.reasons["left for the next run: this one has sent all it may"] == 3
    bench.now += timedelta(days=30)
    assert [bench.reconcile(max_events=2).replayed for _ in range(3)] == [2, 1, 0]
    assert set(bench.posted().values()) == {1}


def test_events_are_sent_no_faster_than_the_rate(bench):
    for _ in range(3):
        bench.emit()
    bench.reconcile(events_per_second=20)
    assert bench.waits == [0.05, 0.05]


def test_a_young_event_is_left_to_its_task(bench):
    bench.emit(LATER - timedelta(seconds=30))
    report = bench.reconcile()
    assert (report.replayed, report.pending) == (0, 1)
    bench.now += timedelta(minutes=2)
    assert bench.reconcile().replayed == 1


def test_a_clock_that_is_ahead_does_not_hide_its_events(bench):
    bench.emit(MOMENT)
    bench.reconcile()
    for days in (0.1, 1, 3650):
        bench.emit(LATER + timedelta(days=days))
    assert bench.reconcile().replayed == 3
    assert bench.reconcile().pending == 0
    assert bench.ledger(LATER + timedelta(days=3650)).accepted == 1


def test_a_clock_that_is_behind_does_not_hide_its_events(bench):
    bench.emit(MOMENT)
    for _ in range(2):
        bench.reconcile()
    bench.now += timedelta(hours=1)
    bench.emit(MOMENT - timedelta(minutes=40))  # within the overlap: at once
    assert bench.reconcile().replayed == 1
    bench.now += timedelta(hours=4)
    bench.reconcile()
    bench.emit(MOMENT - timedelta(days=3))  # an hour that nobody watches: with the next sweep
    bench.emit(datetime(1970, 1, 1, tzinfo=UTC))
    assert bench.reconcile().replayed == 0
    bench.now += timedelta(hours=6)
    assert bench.reconcile().replayed == 2
    assert bench.reconcile().pending == 0


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_clock_out_of_all_bounds_stops_nobody(bench, moment):
    bench.emit()
    bench.emit(moment)
    assert bench.reconcile().replayed == 2
    assert sums(bench.reconcile()) == (2, 2, 0, 0)


def test_a_late_event_of_a_closed_hour_is_found_by_the_sweep(bench):
    bench.emit()
    for _ in range(2):
        bench.reconcile()
    bench.now += timedelta(days=1)
    bench.reconcile()
    bench.emit(MOMENT + timedelta(minutes=1))
    assert bench.reconcile().replayed == 0
    bench.now += timedelta(hours=6)
    assert bench.reconcile().replayed == 1


def test_a_closed_hour_is_not_read_again(bench):
    bench.emit()
    for _ in range(2):
        bench.reconcile()
    bench.now += timedelta(hours=4)
    assert bench.reconcile().hours == 1, "its time to be watched is not over for the run before"
    assert bench.reconcile().hours == 0
    assert bench.reconcile(since=MOMENT).hours == 1
    assert bench.reconcile(since=MOMENT + timedelta(hours=1)).hours == 0
    assert bench.reconcile(until=MOMENT).hours == 1


@pytest.mark.parametrize("body", [b"", b'{"eventType": "COMPL', b"\x00" * 100, b"[1]", b'{"run": 1, "job": 2}'])
def test_a_file_that_is_no_event_is_set_aside_and_the_others_are_sent(bench, body):
    bench.emit()
    bench.spool.store.put(f"{Hour.of(MOMENT).folder}/{'0' * 64}.json", body)
    assert sums(bench.reconcile()) == (2, 0, 1, 1)
    assert bench.spool.new_rejects()[0].reason.startswith("unreadable file")
    assert sums(bench.reconcile()) == (2, 1, 1, 0)


def test_a_half_written_file_is_no_event_yet(bench):
    bench.emit()
    (bench.folder / Hour.of(MOMENT).folder / ".0af1.json.77.tmp").write_text('{"eventTy')
    assert bench.reconcile().spooled == 1


def test_an_event_that_was_brought_back_by_hand_under_another_name_is_sent(bench):
    event = run_event()
    bench.spool.store.put(f"{Hour.of(MOMENT).folder}/from-the-log.json", json.dumps(as_json(event)).encode())
    bench.emit(run_id=event.run.runId)  # and it was in the spool after all
    assert bench.reconcile().spooled == 2
    assert sums(bench.reconcile()) == (2, 2, 0, 0)
    assert len(bench.catalog.events) == 1


def test_a_file_that_is_removed_while_it_is_looked_at_is_not_counted(bench, monkeypatch):
    bench.emit()
    monkeypatch.setattr(type(bench.spool), "read", lambda *_: None)
    assert sums(bench.reconcile()) == (0, 0, 0, 0)


def test_another_content_under_the_same_token_is_rejected_once_it_is_sure(bench):
    event = bench.emit()
    bench.client.post_lineage_event(
        domainIdentifier=bench.catalog.domain_id,
        event=json.dumps(as_json(run_event())),
        clientToken=client_token(event),
    )
    assert bench.reconcile().reasons == {KNOWN: 1}
    report = bench.reconcile()
    assert sums(report) == (1, 0, 1, 0)


def test_a_run_that_is_killed_in_the_middle_is_finished_by_the_next_without_duplicates(bench):
    for number in range(20):
        bench.emit(MOMENT + timedelta(seconds=number))
    bench.catalog.fault("PostLineageEvent", delay_seconds=60, after=7)
    code = (
        "import sys, boto3\n"
        "from datetime import datetime, timedelta\n"
        "from data_platform.lineage.naming import Naming\n"
        "from data_platform.lineage.store import open_store\n"
        "from include.catalog.reconcile import Options, Reconciler\n"
        "from include.catalog.reconcile_catalog import LineageCatalog\n"
        "from include.catalog.spool import Spool\n"
        "url, folder, domain, now = sys.argv[1:]\n"
        "client = boto3.client('datazone', region_name='us-east-1', endpoint_url=url)\n"
        "names = Naming.from_properties({'account_id': '123456789012', 'region': 'us-east-1', 'view_schemas': ['finance']})\n"
        "Reconciler(Spool(open_store(folder)), LineageCatalog(client, domain), names, Options(events_per_second=0),\n"
        "           now=lambda: datetime.fromisoformat(now)).run()\n"
    )
    command = [sys.executable, "-c", code, bench.catalog.url, bench.folder.as_uri(), bench.catalog.domain_id]
    with subprocess.Popen([*command, LATER.isoformat()]) as process:
        bench.catalog.wait_until_asked("PostLineageEvent", 8)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    bench.catalog.clear()
    assert len(bench.catalog.events) < 20
    bench.reconcile()
    assert sums(bench.reconcile()) == (20, 20, 0, 0)
    assert len(bench.catalog.events) == 20


def test_a_ledger_that_does_not_add_up_fails_the_run(bench, monkeypatch):
    bench.emit()
    monkeypatch.setattr(Reconciler, "_replay", lambda *_: None)
    with pytest.raises(LedgerDoesNotAddUp, match=r"expected 1 spooled = .*, found 0 \+ 0 \+ 0"):
        bench.reconcile()


def test_the_ledger_beside_the_spool_has_the_sums(bench):
    bench.emit()
    bench.reconcile()
    document = json.loads((bench.folder / "ledger" / "2026-01-31T08.json").read_text())
    assert (document["spooled"], document["accepted"], document["sums"]) == (1, 0, {"rejected": 0, "pending": 1})
    assert document["checked_at"] == "2026-01-31T08:40:00+00:00"


@pytest.mark.parametrize("broken", ["ledger/2026-01-31T08.json", "watermark.json"])
def test_books_that_can_not_be_read_are_made_anew(bench, broken, caplog):
    bench.emit()
    for _ in range(2):
        bench.reconcile()
    (bench.folder / broken).write_text("{")
    assert sums(bench.reconcile()) == (1, 1, 0, 0)
    assert "can't be read" in caplog.text


def test_a_ledger_reads_back_as_it_was():
    ledger = Ledger("2026-01-31T08", 3, 1, {"a": Reject("a", "2026-01-31T08", "why")}, {"b": Pending("c", "id", 2)})
    assert Ledger.from_json(ledger.to_json()) == ledger
    assert ledger.adds_up


@pytest.mark.parametrize("precision", [1000, 1_000_000])
def test_a_catalog_that_keeps_time_less_precisely_is_matched_event_by_event(precision):
    """One entry of the catalog proves one event, never two of the same run, type and second."""
    first, second = (
        run_event(MOMENT + timedelta(microseconds=n), run_id="019c0000-0000-7000-8000-000000000001") for n in (0, 7)
    )
    from data_platform.lineage.events import event_key

    keys = [event_key(first), event_key(second)]
    cut = keys[0].event_time.microsecond // precision * precision
    coarse = replace(keys[0], event_time=keys[0].event_time.replace(microsecond=cut))
    index = Index([CatalogEvent("a", "SUCCESS", coarse)])
    spooled = frozenset(key.token for key in keys)
    assert index.find(keys[0], spooled)
    assert index.find(keys[1], spooled) is None


def test_an_exact_entry_of_one_event_does_not_prove_another():
    from data_platform.lineage.events import event_key

    run_id = "019c0000-0000-7000-8000-000000000001"
    exact = event_key(run_event("2026-01-31T08:30:00Z", run_id=run_id))
    other = event_key(run_event("2026-01-31T08:30:00.5Z", run_id=run_id))
    index = Index([CatalogEvent("a", "SUCCESS", exact)])
    assert index.find(other, frozenset({exact.token, other.token})) is None


def test_the_best_entry_of_an_event_counts():
    from data_platform.lineage.events import event_key

    key = event_key(run_event())
    entries = [CatalogEvent(status, status, key) for status in ("FAILED", "SUCCESS", "REQUESTED")]
    assert Index(entries).by_token[key.token].status == "SUCCESS"


def test_the_spooled_event_itself_is_never_changed(bench):
    event = bench.emit()
    bench.reconcile()
    (file,) = (bench.folder / Hour.of(MOMENT).folder).iterdir()
    assert parse_event(file.read_bytes()) == as_json(event)
