"""What is sent, and how each kind of answer is read."""

import json

import pytest

from data_platform.batch_gateway import protocol
from data_platform.batch_gateway.exceptions import (
    ClusterUnknown,
    GatewayAccessDenied,
    GatewayConnectionInvalid,
    GatewayRefused,
    GatewayThrottled,
    GatewayUnavailable,
    SubmissionNotFound,
    SubmissionRefused,
)
from data_platform.batch_gateway.protocol import Answer, JobStatus, Listing, check

JOB = "sparkclustera-f72a7ddcfde14f4390194d4027c1e1d6"
STATUS = protocol.status(JOB)
SUBMIT = protocol.submit({"queue": "dev"})


def gateway_error(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"code": status, "message": f"javax.ws.rs.WebApplicationException: {message}"}))


@pytest.mark.parametrize(
    ("call", "answer", "error", "words"),
    [
        (STATUS, Answer(401, '{"code":"401","message":"HTTP 401 Unauthorized."}'), GatewayAccessDenied, "HTTP 401 Unauthorized."),
        (STATUS, Answer(403, ""), GatewayAccessDenied, "an empty answer"),
        (STATUS, gateway_error(404, f"Application submission {JOB} not found"), SubmissionNotFound, JOB),
        (STATUS, gateway_error(500, "Cluster spark (in submissionId: x) not exists"), ClusterUnknown, "without dashes"),
        (protocol.delete(JOB), gateway_error(400, "submissionId x is invalid"), ClusterUnknown, "delete"),
        (STATUS, gateway_error(500, "Kubernetes does not answer"), GatewayUnavailable, "status: expected success, found 500"),
        (STATUS, gateway_error(429, "Too many requests"), GatewayThrottled, "429"),
        (SUBMIT, gateway_error(400, "Spark version not supported: 9.9"), SubmissionRefused, "Spark version not supported: 9.9"),
        (SUBMIT, gateway_error(400, "Cluster with id x not exists"), SubmissionRefused, "Cluster with id x"),
        (SUBMIT, gateway_error(500, "NumberFormatException"), GatewayUnavailable, "NumberFormatException"),
        (SUBMIT, Answer(404, "<html>nginx</html>"), GatewayConnectionInvalid, "base path"),
        (SUBMIT, Answer(302, "", {"location": "/login"}), GatewayConnectionInvalid, "base path"),
        (protocol.find("x"), gateway_error(400, "no"), GatewayRefused, "list"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_success_says_what_it_stands_for(call, answer, error, words):
    with pytest.raises(error, match=words) as raised:
        check(call, answer)
    assert type(raised.value) is error


def test_a_404_that_the_gateway_did_not_write_does_not_lose_a_job():
    with pytest.raises(GatewayUnavailable):
        check(STATUS, Answer(404, "default backend - 404"))


@pytest.mark.parametrize(("answer", "reached"), [(gateway_error(429, "x"), False), (gateway_error(503, "x"), True)])
def test_an_error_tells_whether_the_request_may_have_been_carried_out(answer, reached):
    with pytest.raises(GatewayUnavailable) as raised:
        check(SUBMIT, answer)
    assert raised.value.reached is reached


def test_a_busy_gateway_may_say_how_long_to_wait():
    with pytest.raises(GatewayThrottled) as raised:
        check(STATUS, Answer(429, "", {"retry-after": "7"}))
    assert raised.value.retry_after == 7


def test_only_a_submission_is_never_repeated():
    calls = [
        protocol.health(),
        STATUS,
        protocol.find("x"),
        protocol.list_all(),
        protocol.list_mine(),
        protocol.delete(JOB),
        protocol.spec(JOB),
    ]
    calls += [protocol.driver(JOB), protocol.describe(JOB), protocol.log(JOB), protocol.upload("a", b"", folder="b")]
    assert [call.operation for call in [*calls, SUBMIT] if not call.repeatable] == ["submit"]


def test_a_submission_names_the_proxied_user():
    assert protocol.submit({}, proxied_user="finance").params == {"dagUser": "finance"}
    assert protocol.submit({}).params == {}


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '{"submissionId": ""}', '{"submissionId": 7}', '{"submissionId": "spark', "<html>"]
)
def test_a_submission_without_an_id_in_its_answer_may_have_been_accepted(text):
    with pytest.raises(GatewayUnavailable) as raised:
        SUBMIT.read(Answer(200, text))
    assert raised.value.reached


def test_a_status_is_read_with_all_that_it_says():
    document = {
        "creationTime": 1, "duration": 2, "applicationState": "RUNNING", "sparkApplicationId": "spark-1", "executionAttempts": 3,
        "terminationTime": 4, "applicationErrorMessage": "why", "sparkUIUrl": "http://ui",
    }  # fmt: skip
    assert STATUS.read(Answer(200, json.dumps(document))) == JobStatus(
        JOB, "RUNNING", "spark-1", None, None, 3, 1, 4, "why", "http://ui"
    )


def test_a_status_without_a_state_is_new():
    assert STATUS.read(Answer(200, '{"creationTime": 1}')).state == ""


def summary(name: str, created: int, number: int = 1) -> dict[str, object]:
    return {
        "submissionId": f"sparkclustera-{number:032x}",
        "applicationName": name,
        "creationTime": created,
        "applicationState": "RUNNING",
    }


def test_a_listing_is_read_to_its_last_line():
    text = "\n".join(json.dumps(summary("a", 1, number)) for number in range(3)) + "\n"
    listing = protocol.find("a").read(Answer(200, text))
    assert (len(listing.jobs), listing.complete) == (3, True)
    assert listing.jobs[-1].submission_id.endswith("2")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, json.dumps(summary("a", 1)) + '\n{"submissionId": "spark'),
        Answer(200, json.dumps(summary("a", 1)) + "\n", complete=False),
    ],
    ids=["cut line", "cut body"],
)
def test_a_listing_that_broke_off_is_not_complete_and_keeps_what_it_has(answer):
    listing = protocol.list_all().read(answer)
    assert (len(listing.jobs), listing.complete) == (1, False)


def test_an_empty_listing_is_complete():
    assert protocol.find("a").read(Answer(200, "")) == Listing(())


def test_my_submissions_are_read():
    answer = Answer(200, json.dumps({"submissions": [summary("a", 1), {"no": "id"}]}))
    assert [job.application_name for job in protocol.list_mine().read(answer).jobs] == ["a"]


def test_jobs_of_a_name_come_oldest_first_and_no_other():
    jobs = [
        JobStatus.from_json(str(d["submissionId"]), d)
        for d in (summary("a", 9, 1), summary("ab", 1, 2), summary("a", 3, 3))
    ]
    assert [job.created for job in Listing(tuple(jobs)).named("a")] == [3, 9]


def test_health_takes_no_other_word():
    protocol.health().read(Answer(200, '{"status": "OK"}'))
    with pytest.raises(GatewayUnavailable, match="OK"):
        protocol.health().read(Answer(200, '{"status": "starting"}'))


def test_a_submission_id_can_not_leave_its_place_in_the_path():
    assert protocol.status("../admin?x").path == "/spark/..%2Fadmin%3Fx/status"
