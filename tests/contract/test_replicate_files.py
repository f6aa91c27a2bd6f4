"""Replicate's files, by its unmodified client and by hand; and files as inputs."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError

from forebay.contract.files import Purpose, Terms
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.lanes.keys import Keys
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings
from forebay.storage.file_records import Files, files_of
from tests.fixtures.answering import answering, weigh
from tests.fixtures.gateway import Gateway, running_gateway
from tests.fixtures.waiting import PATIENCE_S

T = TypeVar("T")

SPEC = ModelSpec(Task.IMAGE_CLASSIFICATION, BackendName.ONNX, source="package:none", name="weigher")


@pytest.fixture
def settings(redis_url: str, key_prefix: str, tmp_path: Path) -> Settings:
    """Nothing may be called out to: what is read is read here."""
    return Settings(
        redis_url=redis_url, key_prefix=key_prefix, home=str(tmp_path), max_body_bytes=1_000
    )


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with running_gateway(settings, catalog=Catalog({"weigher": SPEC})) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    made = Client(api_token="r8_none", base_url=f"{gateway.url}/replicate")
    made.poll_interval = 0.02
    yield made
    made._client.close()
    await made._async_client.aclose()


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as made:
        yield made


@pytest.fixture
def files(settings: Settings) -> Files:
    return files_of(settings)


@pytest.fixture
async def worker(redis_url: str, keys: Keys) -> AsyncIterator[None]:
    async with answering(redis_url, keys, "weigher", answer=weigh):
        yield


async def aside(do: Callable[[], T]) -> T:
    """What comes of a call that blocks."""
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.to_thread(do)


def named(content: bytes, name: str) -> io.BytesIO:
    handle = io.BytesIO(content)
    handle.name = name
    return handle


async def test_a_file_is_sent_shown_read_and_deleted(
    client: Client, http: httpx.AsyncClient
) -> None:
    made = await aside(
        lambda: client.files.create(named(b"cat", "/home/me/cat.png"), metadata={"of": ["a cat"]})
    )
    assert (made.name, made.content_type, made.size) == ("cat.png", "image/png", 3)
    assert made.metadata == {"of": ["a cat"]}
    assert made.checksums["sha256"] == made.etag
    assert made.expires_at is not None
    assert await aside(lambda: client.files.get(made.id)) == made
    assert [one.id for one in await client.files.async_list()] == [made.id]
    content = await http.get(f"{made.urls['get']}/download")
    assert (content.content, content.headers["content-type"]) == (b"cat", "image/png")
    assert await client.files.async_delete(made.id) is True
    with pytest.raises(ReplicateError, match="There is no file"):
        await aside(lambda: client.files.get(made.id))


async def test_a_path_is_sent_as_a_file(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    made = await aside(lambda: client.files.create(path))
    assert (made.name, made.content_type, made.size) == ("a.jpg", "image/jpeg", 3)


async def test_many_files_are_listed_page_by_page(http: httpx.AsyncClient, files: Files) -> None:
    terms = Terms(filename="a", purpose=Purpose.USER_DATA)
    made = [files.put([b"x"], terms).id for _ in range(101)]
    files.put([b"x"], Terms(filename="a", purpose=Purpose.BATCH_OUTPUT))
    first = (await http.get("/replicate/v1/files")).json()
    assert [one["id"] for one in first["results"]] == made[:0:-1]
    second = (await http.get(first["next"])).json()
    assert [one["id"] for one in second["results"]] == made[:1]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"data": {"metadata": "[1]"}, "files": {"content": b"x"}}, "a JSON object"),
        ({"data": {"metadata": "{"}, "files": {"content": b"x"}}, "a JSON object"),
        ({"data": {"shelf": "top"}, "files": {"content": b"x"}}, "no field of this form"),
        ({"files": {"file": b"x"}}, "belongs in 'content'"),
        ({"files": {"content": b""}}, "is empty"),
        ({"data": {"metadata": "{}"}, "files": {"other": (None, b"x")}}, "no file in its field"),
        ({"data": {"metadata": '{"a": NaN}'}, "files": {"content": b"x"}}, "a JSON object"),
        ({"data": {"metadata": "[" * 9_999}, "files": {"content": b"x"}}, "a JSON object"),
    ],
)
async def test_what_is_wrong_is_told_as_a_problem(
    http: httpx.AsyncClient, files: Files, form: dict[str, Any], told: str
) -> None:
    answer = await http.post("/replicate/v1/files", **form)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]
    assert files.contents.names() == []


async def test_a_media_type_that_is_none_is_not_told_on(http: httpx.AsyncClient) -> None:
    made = await http.post(
        "/replicate/v1/files",
        data={"type": "a/b\r\nset-cookie: x=y", "filename": "x.gif"},
        files={"content": b"x"},
    )
    assert made.json()["content_type"] == "image/gif"


async def test_a_handle_in_an_input_is_sent_first_and_read_here(
    client: Client, worker: None, files: Files
) -> None:
    predicted = await aside(
        lambda: client.predictions.create(
            version="weigher", input={"image": named(b"abcde", "five.png")}
        )
    )
    await aside(predicted.wait)
    assert predicted.output == [{"label": "bytes", "score": 5.0}]
    (kept,) = files.page(limit=9).files
    assert predicted.input == {"image": f"{client._client.base_url}v1/files/{kept.id}"}


async def test_a_model_is_run_on_a_file_however_it_is_given(
    client: Client, worker: None, files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(b"abcdefg")

    def run(**how: Any) -> Any:
        with path.open("rb") as handle:
            return client.run("forebay/weigher", input={"image": handle}, **how)

    answers = [
        await aside(run),
        await aside(lambda: run(file_encoding_strategy="base64")),
        await aside(lambda: client.run("forebay/weigher", input={"image": path})),
        await client.async_run("forebay/weigher", input={"image": path}),
    ]
    assert answers == [[{"label": "bytes", "score": 7.0}]] * 4
    assert [one.filename for one in files.page(limit=9).files] == ["seven.png"] * 3


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Äpfel & Birnen 🍐.png", "Äpfel & Birnen 🍐.png"),
        ("C:\\pictures\\cat.png", "cat.png"),
        ("..", ".."),
        ("/", "file"),
        ("x" * 300, "x" * 255),
        ("a;b=c, 'd'.png", "a;b=c, 'd'.png"),
    ],
)
async def test_a_name_is_kept_as_a_label(http: httpx.AsyncClient, given: str, shown: str) -> None:
    made = (await http.post("/replicate/v1/files", files={"content": (given, b"x")})).json()
    assert made["name"] == shown
    content = await http.get(f"{made['urls']['get']}/download")
    assert content.content == b"x"
    told = content.headers["content-disposition"].partition("filename*=UTF-8''")[2]
    assert unquote(told) == shown


@pytest.mark.parametrize("given", ['a"b.png', "a\r\nset-cookie: x=y.png", "a\0b.png"])
async def test_no_name_breaks_a_header(http: httpx.AsyncClient, given: str) -> None:
    made = (await http.post("/replicate/v1/files", files={"content": (given, b"x")})).json()
    assert made["name"].isprintable()
    content = await http.get(f"{made['urls']['get']}/download")
    assert (content.status_code, "set-cookie" in content.headers) == (200, False)


async def test_files_are_inputs_by_id_and_by_any_of_their_urls(
    http: httpx.AsyncClient, worker: None, files: Files
) -> None:
    record = files.put([b"abcdefg"], Terms(filename="seven", purpose=Purpose.VISION))
    given = [
        record.id,
        f"{http.base_url}/v1/files/{record.id}",
        f"{http.base_url}/v1/files/{record.id}/content",
        f"{http.base_url}/replicate/v1/files/{record.id}",
        f"https://behind.a.proxy/replicate/v1/files/{record.id}/download?signature=any",
        "data:image/png;base64,AAAA",
    ]
    body = {"version": "weigher", "input": {"image": given}}
    answer = await http.post("/v1/predictions", json=body, headers={"prefer": "wait=20"})
    assert [one[0]["score"] for one in answer.json()["output"]] == [7.0] * 5 + [3.0]


async def test_a_file_that_is_not_there_or_too_large_is_told_of_by_its_field(
    http: httpx.AsyncClient, files: Files
) -> None:
    large = files.put([b"x" * 600], Terms(filename="a", purpose=Purpose.VISION)).id
    for given, field, told in (
        (["AAAA", "file-" + "0" * 32], "input.image[1]", "There is no file"),
        ([large, large], "input.image[1]", "600 bytes"),
        # A gateway elsewhere may have it; here it is an address like any other.
        (["http://127.0.0.1/v1/files/file-" + "0" * 32], "input.image[0]", "not a public address"),
        (["http://127.0.0.1/v1/files/mine"], "input.image[0]", "not a public address"),
    ):
        body = {"version": "weigher", "input": {"image": given}}
        answer = await http.post("/v1/predictions", json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["param"] == field
        assert told in answer.json()["detail"]
