"""OpenAI's files, by the unmodified `openai` client and by hand, against a real gateway."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from forebay.contract.files import Purpose, Terms
from forebay.runtime.settings import Settings
from forebay.storage.file_records import Files, files_of

LINES = b'{"custom_id": "1"}\n{"custom_id": "2"}\n'
DAY = 86_400


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path), max_file_bytes=1_000_000
    )


@pytest.fixture
def files(settings: Settings) -> Files:
    return files_of(settings)


def contents(settings: Settings) -> list[str]:
    return [path.name for path in Path(settings.home, "files", "contents").glob("*")]


async def test_a_file_is_sent_shown_read_and_deleted(
    client: openai.AsyncOpenAI, settings: Settings
) -> None:
    made = await client.files.create(file=("requests.jsonl", LINES), purpose="batch")
    assert (made.object, made.filename, made.bytes) == ("file", "requests.jsonl", len(LINES))
    assert (made.purpose, made.status) == ("batch", "processed")
    assert made.expires_at is not None
    assert 0 <= made.expires_at - made.created_at - settings.file_retention_s <= 1
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(made.id)).read() == LINES
    gone = await client.files.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "file", True)
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        await client.files.retrieve(made.id)
    assert contents(settings) == []


async def test_any_kind_of_file_that_the_client_takes(
    client: openai.AsyncOpenAI, tmp_path: Path
) -> None:
    path = tmp_path / "von Büchern & Äpfeln.txt"
    path.write_bytes(b"path")
    for given, name, content in (
        (path, path.name, b"path"),
        (b"bytes", "upload", b"bytes"),
        (io.BytesIO(b"handle"), "upload", b"handle"),
        (("../../etc/passwd", b"label"), "passwd", b"label"),
    ):
        made = await client.files.create(file=given, purpose="user_data")
        assert made.filename == name
        assert (await client.files.content(made.id)).read() == content


async def test_a_file_goes_when_it_was_told_to(client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(
        file=b"x", purpose="vision", expires_after={"anchor": "created_at", "seconds": DAY}
    )
    assert made.expires_at is not None
    assert made.expires_at - made.created_at in (DAY, DAY + 1)


async def test_files_are_listed_page_by_page(client: openai.AsyncOpenAI) -> None:
    made = [
        (await client.files.create(file=b"x", purpose=("batch", "user_data")[n % 2])).id
        for n in range(5)
    ]
    assert [one.id async for one in client.files.list()] == made[::-1]
    assert [one.id async for one in client.files.list(limit=2, order="asc")] == made
    assert [one.id async for one in client.files.list(purpose="batch")] == made[::-2]
    page = await client.files.list(limit=2, after=made[3])
    assert ([one.id for one in page.data], page.has_more) == ([made[2], made[1]], True)


@pytest.mark.parametrize(
    ("given", "param", "told"),
    [
        ({"purpose": "fine-tune"}, "purpose", "no files here for 'fine-tune'"),
        ({"purpose": "batch_output"}, "purpose", "use batch, user_data, vision"),
        ({"file": b""}, "file", "is empty"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "seconds", "3,600"),
        ({"expires_after": {"anchor": "last_active_at", "seconds": DAY}}, "anchor", "created_at"),
        ({"extra_body": {"shelf": "top"}}, "shelf", "no field of this form"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_kept(
    client: openai.AsyncOpenAI, settings: Settings, given: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=told) as refused:
        await client.files.create(**{"file": b"x", "purpose": "batch", **given})
    assert param in str(refused.value.param)
    assert contents(settings) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_large_is_refused(
    web: httpx.AsyncClient, settings: Settings, announced: bool
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

    async def body() -> AsyncIterator[bytes]:
        yield head
        for _ in range(11 if announced else 3):
            yield b"x" * 400_000
        yield b"\r\n--b--\r\n"

    answer = await web.post(
        "/v1/files",
        content=b"".join([part async for part in body()]) if announced else body(),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 413, answer.text
    assert "1,000,000 bytes" in answer.json()["error"]["message"] or announced
    assert contents(settings) == []


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("application/json", b"{}", "must be a form"),
        ("multipart/form-data", b"{}", "boundary"),
        ("multipart/form-data; boundary=b", b"nothing of a form", "not a form"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Dispo", "cut short"),
        ("multipart/form-data; boundary=b", b"", "cut short"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "no file in its field 'file'"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 65 + b"--b--\r\n",
            "more than 64 parts|is there twice",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 70_000,
            "more than 65,536 bytes together",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\n" + b"X-A: y\r\n" * 17 + b"\r\n\r\n--b--\r\n",
            "not a form",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="doc"; filename="f"\r\n\r\nx\r\n--b--',
            "belongs in 'file'",
        ),
    ],
)
async def test_what_is_no_form_is_refused(
    web: httpx.AsyncClient, settings: Settings, content_type: str, body: bytes, told: str
) -> None:
    answer = await web.post("/v1/files", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert any(one in error["message"] for one in told.split("|")), error
    assert contents(settings) == []


async def test_a_range_of_a_file(web: httpx.AsyncClient, files: Files) -> None:
    content = bytes(range(256)) * 4_000
    record = files.put([content], Terms(filename='a"\né.bin', purpose=Purpose.USER_DATA))
    path = f"/v1/files/{record.id}/content"
    whole = await web.get(path)
    assert whole.content == content
    assert whole.headers["content-length"] == str(len(content))
    assert whole.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["content-disposition"].startswith('attachment; filename="a__.bin"')
    assert whole.headers["x-content-type-options"] == "nosniff"
    for wanted, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=1000-299999", 1_000, 299_999),
        ("bytes=-3", len(content) - 3, len(content) - 1),
        ("bytes=1023990-", 1_023_990, len(content) - 1),
        ("bytes=1023990-9999999", 1_023_990, len(content) - 1),
    ):
        part = await web.get(path, headers={"range": wanted})
        assert part.status_code == 206
        assert part.content == content[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
    for wanted in ("bytes=5-1", "bytes=-", "lines=1-2", "bytes=0-1,3-4"):
        assert (await web.get(path, headers={"range": wanted})).status_code == 200
    none = await web.get(path, headers={"range": f"bytes={len(content)}-"})
    assert none.status_code == 416
    assert none.headers["content-range"] == f"bytes */{len(content)}"
    same = {"if-range": whole.headers["etag"], "range": "bytes=0-0"}
    assert (await web.get(path, headers=same)).status_code == 206
    other = {"if-range": '"another"', "range": "bytes=0-0"}
    assert (await web.get(path, headers=other)).status_code == 200
    for etags in (whole.headers["etag"], f'"other", W/{whole.headers["etag"]}', "*"):
        known = await web.get(path, headers={"if-none-match": etags})
        assert (known.status_code, known.content) == (304, b"")
        assert "content-length" not in known.headers
    head = await web.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(content))


async def test_a_file_in_use_is_not_deleted(client: openai.AsyncOpenAI, files: Files) -> None:
    made = await client.files.create(file=LINES, purpose="batch")
    files.hold(made.id, by="batch_1")
    with pytest.raises(openai.BadRequestError, match="in use by batch_1"):
        await client.files.delete(made.id)
    files.release(made.id, by="batch_1")
    assert (await client.files.delete(made.id)).deleted


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "order=up", "top=1"])
async def test_a_list_says_which_parameter_is_wrong(web: httpx.AsyncClient, query: str) -> None:
    answer = await web.get(f"/v1/files?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]
