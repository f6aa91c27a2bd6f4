"""OpenAI's uploads, files in parts, by the unmodified `openai` client against a real gateway."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Upload

from forebay.contract.errors import InvalidInput
from forebay.contract.parcels import LIFE_S
from forebay.runtime.settings import Settings
from forebay.storage.file_records import Files, files_of
from forebay.storage.parcels import GRACE_S, Parcels
from tests.fixtures.waiting import eventually

CONTENT = bytes(range(256)) * 1_000


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path), max_file_bytes=300_000
    )


async def begun(client: openai.AsyncOpenAI, size: int, **more: Any) -> Upload:
    asked = {"filename": "a.jsonl", "mime_type": "application/jsonl", "purpose": "batch", **more}
    return await client.uploads.create(bytes=size, **asked)


def left(settings: Settings) -> list[str]:
    """Parts and contents that lie in the store."""
    folder = Path(settings.home, "files")
    return [path.name for part in ("segments", "contents") for path in folder.glob(f"{part}/*")]


async def test_the_clients_own_helper_sends_a_file_in_parts(
    client: openai.AsyncOpenAI, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "numbers.bin"
    path.write_bytes(CONTENT)
    done = await client.uploads.upload_file_chunked(
        file=path,
        mime_type="application/jsonl",
        purpose="batch",
        part_size=100_000,
        md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    )
    assert (done.object, done.status, done.bytes) == ("upload", "completed", len(CONTENT))
    assert done.expires_at - done.created_at in (3_600, 3_601)
    assert done.file is not None
    assert (done.file.filename, done.file.bytes, done.file.purpose) == (
        "numbers.bin", len(CONTENT), "batch",
    )  # fmt: skip
    assert await client.files.retrieve(done.file.id) == done.file
    assert (await client.files.content(done.file.id)).read() == CONTENT
    assert left(settings) == [done.file.id]


async def test_parts_are_joined_in_the_order_in_which_they_are_named(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    upload = await begun(
        client, 6, expires_after={"anchor": "created_at", "seconds": 7_200}, filename="x/../ä\n.txt"
    )
    assert (upload.status, upload.file, upload.filename) == ("pending", None, "ä.txt")
    pieces = (b"cc", b"aa", b"bb", b"of no use")
    parts = await asyncio.gather(
        *(client.uploads.parts.create(upload.id, data=piece) for piece in pieces)
    )
    assert {(part.object, part.upload_id) for part in parts} == {("upload.part", upload.id)}
    named = [parts[at].id for at in (1, 2, 0)]
    done = await client.uploads.complete(upload.id, part_ids=named)
    assert done.file is not None
    assert done.file.expires_at is not None
    assert done.file.expires_at - done.file.created_at in (7_200, 7_201)
    assert (await client.files.content(done.file.id)).read() == b"aabbcc"
    again = await client.uploads.complete(upload.id, part_ids=named)  # its answer was lost
    assert again == done
    assert left(settings) == [done.file.id]
    for more in (
        client.uploads.parts.create(upload.id, data=b"more"),
        client.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.BadRequestError, match="upload is completed"):
            await more


async def test_what_is_cancelled_leaves_nothing(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    upload = await begun(client, 4)
    part = await client.uploads.parts.create(upload.id, data=b"part")
    assert len(left(settings)) == 1
    for _ in range(2):
        assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    assert left(settings) == []
    for more in (
        client.uploads.parts.create(upload.id, data=b"more"),
        client.uploads.complete(upload.id, part_ids=[part.id]),
    ):
        with pytest.raises(openai.BadRequestError, match="upload is cancelled") as refused:
            await more
        assert refused.value.param == "upload_id"


async def test_parts_that_are_not_the_file_make_none_and_may_be_put_right(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    upload = await begun(client, 4)
    one = await client.uploads.parts.create(upload.id, data=b"on")
    other = await client.uploads.parts.create(upload.id, data=b"ce")
    other_upload = await begun(client, 4)
    for wrong, param, told in (
        ({"part_ids": [one.id]}, "part_ids", "2 bytes together, and the upload is of 4"),
        ({"part_ids": [one.id, other.id, one.id]}, "part_ids", "6 bytes together"),
        ({"part_ids": [one.id, "part_none"]}, "part_ids[1]", "no part 'part_none'"),
        ({"part_ids": []}, "part_ids", "1"),
        ({"part_ids": [other.id, one.id], "md5": hashlib.md5(b"once").hexdigest()}, "md5", "order"),
    ):
        with pytest.raises(openai.BadRequestError, match=re.escape(told)) as refused:
            await client.uploads.complete(upload.id, **wrong)
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError, match="no part"):
        await client.uploads.complete(other_upload.id, part_ids=[one.id, other.id])
    done = await client.uploads.complete(upload.id, part_ids=[one.id, other.id])
    assert done.file is not None
    assert (await client.files.content(done.file.id)).read() == b"once"


@pytest.mark.parametrize(
    ("asked", "param", "told"),
    [
        ({"size": 300_001}, "bytes", "300,000 bytes here, not 300,001"),
        ({"size": 0}, "bytes", "1"),
        ({"size": 9, "purpose": "fine-tune"}, "purpose", "no files here for 'fine-tune'"),
        ({"size": 9, "filename": ""}, "filename", "1"),
        ({"size": 9, "expires_after": {"anchor": "created_at", "seconds": 5}},
         "expires_after.seconds", "3600"),
        ({"size": 9, "extra_body": {"shelf": "top"}}, "shelf", "shelf"),
    ],
)  # fmt: skip
async def test_an_upload_that_can_not_be_is_refused_and_says_why(
    client: openai.AsyncOpenAI, asked: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(told)) as refused:
        await begun(client, **asked)
    assert refused.value.param == param


async def test_a_part_that_can_not_be_is_refused_and_nothing_of_it_is_kept(
    client: openai.AsyncOpenAI, web: httpx.AsyncClient, settings: Settings
) -> None:
    for missing in ("upload_none", f"upload_{'0' * 32}", "../records/x"):
        with pytest.raises(openai.NotFoundError):
            await client.uploads.parts.create(missing, data=b"x")
        with pytest.raises(openai.NotFoundError):
            await client.uploads.complete(missing, part_ids=["part"])
        with pytest.raises(openai.NotFoundError):
            await client.uploads.cancel(missing)
    upload = await begun(client, 4)
    url = f"/v1/uploads/{upload.id}/parts"
    for form, status, told in (
        ({"files": {"data": b"x" * 300_001}}, 413, "300,000 bytes"),
        ({"files": {"data": b""}}, 400, "is empty"),
        ({"files": {"file": b"x"}}, 400, "belongs in 'data'"),
        ({"files": {"data": b"x"}, "data": {"shelf": "top"}}, 400, "takes data"),
        ({"json": {"data": "x"}}, 400, "must be a form"),
    ):
        answer = await web.post(url, **form)
        assert (answer.status_code, told in answer.text) == (status, True), answer.text
    await eventually(lambda: not left(settings), what="nothing is left")
    await client.uploads.parts.create(upload.id, data=b"12345678")
    with pytest.raises(openai.BadRequestError, match="have 8 bytes already"):
        await client.uploads.parts.create(upload.id, data=b"x")


async def test_an_upload_whose_time_is_over_takes_no_more_and_goes_with_its_parts(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    upload = await begun(client, 4)
    part = await client.uploads.parts.create(upload.id, data=b"part")
    files = files_of(settings)
    late = Parcels(files, now=lambda: upload.created_at + LIFE_S + 2)
    with pytest.raises(InvalidInput, match="upload is expired"):
        late.complete(upload.id, [part.id])
    assert Parcels(files).expire() == 0
    assert len(left(settings)) == 1
    later = Files(
        settings.files_at,
        retention_s=settings.file_retention_s,
        now=lambda: upload.created_at + LIFE_S + GRACE_S + 60,
    )
    assert Parcels(later).expire() == 1
    assert left(settings) == []
    with pytest.raises(openai.NotFoundError, match="There is no upload"):
        await client.uploads.complete(upload.id, part_ids=[part.id])
