"""Files on a server that speaks S3, as they are in a folder."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from forebay.contract.errors import NotFound
from forebay.contract.files import Purpose, Terms
from forebay.lanes.keys import Keys
from forebay.runtime.redis import connect
from forebay.runtime.settings import Settings
from forebay.storage.file_records import ABANDONED_S, Files
from forebay.storage.parcels import Parcels
from forebay.storage.segments import Segments
from tests.fixtures.answering import answering
from tests.fixtures.batching import Batched, batches_running, embedding, jsonl
from tests.fixtures.servers import TIMEOUT_S

MIB = 1 << 20
TERMS = Terms(filename="lines.jsonl", purpose=Purpose.BATCH)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket there, and an environment that says how to get at it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{secrets.token_hex(4)}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/forebay"


def files_at(url: str) -> Files:
    return Files(url, retention_s=1e6, skip_instance_cache=True)


def test_files_are_written_read_listed_held_and_deleted(url: str) -> None:
    one, other = files_at(url), files_at(url)
    assert one.page(limit=9).files == []
    small = one.put([b"small"], TERMS)
    large = one.put((b"%d" % (n % 10) * MIB for n in range(11)), TERMS)
    empty = one.put([], TERMS)
    assert other.get(large.id) == large
    assert [file.id for file in other.page(limit=2).files] == [empty.id, large.id]
    with other.open(large.id) as content:
        content.seek(10 * MIB - 1)
        assert content.read(2) == b"90"
        assert content.seek(0) == 0
        assert content.readline(9) == b"0" * 9
        assert len(content.read()) == 11 * MIB - 9
        assert (content.tell(), content.read(1)) == (11 * MIB, b"")
    other.hold(small.id, by="batch_1")
    assert one.expire() == 0
    other.release(small.id, by="batch_1")
    one.delete(small.id)
    with pytest.raises(NotFound):
        other.get(small.id)
    assert other.contents.names() == [large.id, empty.id]


@pytest.mark.parametrize("size", [100, 11 * MIB])
def test_an_upload_that_is_given_up_leaves_nothing(url: str, size: int) -> None:
    files = files_at(url)
    with files.begin() as upload:
        for _ in range(0, size, MIB):
            upload.write(b"x" * min(size, MIB))
    assert files.contents.names() == []


def test_segments_are_joined(url: str) -> None:
    files = files_at(url)
    segments = Segments(files, files.new_id())
    for index in range(3):
        segments.put(index, [b"%d\n" % index])
    record = segments.join(TERMS)
    assert record is not None
    with files.open(record.id) as content:
        assert content.read() == b"0\n1\n2\n"
    assert files.segments.names() == []


def test_files_whose_time_is_over_and_what_was_left_behind_go(url: str) -> None:
    files = files_at(url)
    record = files.put([b"x"], TERMS)
    orphan = files.new_id()
    files.contents.put(orphan, [b"x"])
    assert files.expire() == 0
    later = Files(url, retention_s=1e6, now=lambda: record.created_at + 1e6 + ABANDONED_S + 60)
    assert later.expire() == 1
    assert files.contents.names() == []


def test_a_file_comes_in_parts(url: str) -> None:
    files = files_at(url)
    parcels = Parcels(files)
    parcel = parcels.begin(6, TERMS)
    parts = []
    for number in (2, 0, 1):
        part = parcels.part(parcel.id)
        part.write(b"%d" % number * 2)
        parts.append(part.finish().id)
    part = parcels.part(parcel.id)
    part.write(b"x")
    part.abandon()
    assert len(files.segments.names()) == 3
    _, record = parcels.complete(parcel.id, [parts[1], parts[2], parts[0]])
    with files.open(record.id) as content:
        assert content.read() == b"001122"
    assert parcels.complete(parcel.id, parts) == (parcels.get(parcel.id), record)
    assert files.segments.names() == []


async def test_a_batch_reads_and_writes_there(
    url: str, redis_url: str, key_prefix: str, keys: Keys, tmp_path: Path
) -> None:
    settings = Settings(
        redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path), files_url=url
    )
    lines = jsonl(embedding(f"id {number}", f"text {number}") for number in range(300))
    async with connect(redis_url, timeout_s=TIMEOUT_S) as redis:
        batched = Batched(settings, redis)
        made = await batched.make(lines + jsonl([embedding("wrong", "x", stream=True)]))
        async with answering(redis_url, keys, "minilm"), batches_running(settings):
            done = await batched.ended(made)
    assert done.counts == msgspec.structs.replace(done.counts, total=301, completed=300, failed=1)
    output = {one["custom_id"] for one in batched.output(done)}
    assert output == {f"id {number}" for number in range(300)}
    assert [one["custom_id"] for one in batched.errors(done)] == ["wrong"]
    assert batched.files.segments.names() == []
    assert not (tmp_path / "files").exists()
