"""A job's files in S3 and through the gateway: at an address of their content, never overwritten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest

from include.local.aws.trial import trial_aws
from include.spark.exceptions import JobNotPlaced, PlacedFileDiffers
from include.spark.packages import JobFile, JobPackage, package_job
from include.spark.placement import PREFIX, PlacedJob, place_in_s3, place_through_gateway

BUCKET = "data-platform"


@pytest.fixture(scope="module")
def s3():
    with trial_aws([BUCKET]) as url:
        yield boto3.client("s3", endpoint_url=url)


@pytest.fixture
def written(s3):
    """Empty the bucket, then tell which requests to write there were."""
    for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=each["Key"])
    calls = []
    s3.meta.events.register(
        "before-call.s3.PutObject", lambda params, **_: calls.append(params["url_path"]), unique_id="w"
    )
    yield calls
    s3.meta.events.unregister("before-call.s3.PutObject", unique_id="w")


def package(text=b"print(1)", modules=b"zip"):
    zipped = JobFile("modules.zip", modules, "application/zip") if modules else None
    return JobPackage("job", JobFile("job.py", text, "text/x-python"), zipped)


def content(s3, url):
    bucket, _, key = url.partition("://")[2].partition("/")
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_the_files_are_where_the_submission_will_name_them(s3, written):
    job = package_job("spark_pi")

    placed = place_in_s3(job, s3, BUCKET)

    assert placed.main_application_file == f"s3://{BUCKET}/{PREFIX}/spark_pi/{job.digest[:16]}/spark_pi.py"
    assert placed.py_files == (f"s3://{BUCKET}/{PREFIX}/spark_pi/{job.digest[:16]}/modules.zip",)
    assert content(s3, placed.main_application_file) == job.main.content
    assert content(s3, placed.py_files[0]) == job.modules.content


def test_a_job_without_modules_names_none(s3, written):
    assert place_in_s3(package(modules=None), s3, BUCKET).py_files == ()
    assert len(written) == 1


def test_the_urls_have_the_scheme_that_the_clusters_read(s3, written):
    placed = place_in_s3(package(), s3, BUCKET, "s3a")
    assert {url.partition(":")[0] for url in (placed.main_application_file, *placed.py_files)} == {"s3a"}


def test_what_is_there_is_not_written_again(s3, written):
    first = place_in_s3(package(), s3, BUCKET)
    assert len(written) == 2

    assert place_in_s3(package(), s3, BUCKET) == first
    assert len(written) == 2


def test_a_file_that_an_interrupted_task_did_not_write_is_added(s3, written):
    placed = place_in_s3(package(), s3, BUCKET)
    s3.delete_object(Bucket=BUCKET, Key=placed.py_files[0].removeprefix(f"s3://{BUCKET}/"))
    written.clear()

    place_in_s3(package(), s3, BUCKET)

    assert [path.rpartition("/")[2] for path in written] == ["modules.zip"]
    assert content(s3, placed.py_files[0]) == b"zip"


def test_another_version_leaves_the_first_where_it_is(s3, written):
    first = place_in_s3(package(b"print(1)"), s3, BUCKET)
    second = place_in_s3(package(b"print(2)"), s3, BUCKET)

    assert content(s3, first.main_application_file) == b"print(1)"
    assert content(s3, second.main_application_file) == b"print(2)"


def test_many_tasks_at_once_place_one_job(s3, written):
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda _: place_in_s3(package(), s3, BUCKET), range(8)))

    assert len(set(places)) == 1
    assert content(s3, places[0].main_application_file) == b"print(1)"


def test_one_that_was_placed_between_look_and_write_is_not_overwritten(s3, written):
    """S3 itself refuses the second write."""

    class Late:
        """S3 as it was before the other task wrote."""

        def __init__(self):
            self.asked = 0

        def head_object(self, **kwargs):
            self.asked += 1
            if self.asked == 1:
                place_in_s3(package(modules=None), s3, BUCKET)
                return s3.head_object(Bucket=BUCKET, Key="not/there")
            return s3.head_object(**kwargs)

        def put_object(self, **kwargs):
            return s3.put_object(**kwargs)

    late = Late()
    placed = place_in_s3(package(modules=None), late, BUCKET)

    assert late.asked == 2
    assert len(written) == 2
    assert content(s3, placed.main_application_file) == b"print(1)"


@pytest.mark.parametrize("metadata", [{}, {"sha256": "0" * 64}])
def test_something_else_at_the_address_is_refused_not_overwritten(s3, written, metadata):
    placed = place_in_s3(package(), s3, BUCKET)
    key = placed.main_application_file.removeprefix(f"s3://{BUCKET}/")
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"by hand", Metadata=metadata)

    with pytest.raises(
        PlacedFileDiffers, match=r"job\.py: expected 8 bytes with sha256 \w{64}, found 7 bytes .* Remove it, and clear"
    ):
        place_in_s3(package(), s3, BUCKET)

    assert content(s3, placed.main_application_file) == b"by hand"


def test_a_bucket_that_is_not_there_is_told_with_what_is_needed(s3):
    with pytest.raises(
        JobNotPlaced,
        match=r"expected s3://no-such-bucket/spark/jobs/job/\w{16}/job\.py to be written, found: .*s3:PutObject",
    ):
        place_in_s3(package(), s3, "no-such-bucket")


def test_the_gateway_is_asked_to_keep_the_files_under_the_same_name_and_version():
    uploads = {}

    def upload(name, content, *, folder):
        uploads[f"{folder}/{name}"] = content
        return f"s3a://gateway/uploaded/{folder}/{name}"

    job = package()
    placed = place_through_gateway(job, upload)

    place = f"jobs/job/{job.digest[:16]}"
    assert uploads == {f"{place}/job.py": b"print(1)", f"{place}/modules.zip": b"zip"}
    assert placed.main_application_file == f"s3a://gateway/uploaded/{place}/job.py"
    assert placed.py_files == (f"s3a://gateway/uploaded/{place}/modules.zip",)


def test_a_placed_job_goes_through_an_xcom(s3, written):
    import json

    placed = place_in_s3(package(), s3, BUCKET)
    assert PlacedJob.from_xcom(json.loads(json.dumps(placed.to_xcom()))) == placed
