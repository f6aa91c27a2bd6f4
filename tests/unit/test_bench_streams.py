"""What the benchmark makes of when a stream's events came."""

import asyncio

import pytest

from tests.bench.generation import served
from tests.bench.generation.streams import Read, chats, steady


def test_a_rate_is_of_the_time_in_which_all_streams_write() -> None:
    # 10 and 20 tokens a second; the second begins late and ends early.
    one = Read(0.0, tuple(n / 10 for n in range(100)), 100)
    other = Read(0.0, tuple(2 + n / 20 for n in range(100)), 100)
    assert steady([one, other]) == pytest.approx(30, rel=0.02)


def test_an_event_of_several_tokens_counts_for_them() -> None:
    doubled = Read(0.0, tuple(n / 10 for n in range(50)), 100)
    assert steady([doubled]) == pytest.approx(20, rel=0.05)
    assert doubled.between(1.0, 2.0) == pytest.approx(20)


def test_the_first_token_counts_from_the_request_and_gaps_from_one_to_the_next() -> None:
    read = Read(1.0, (1.5, 1.7, 2.0), 3)
    assert read.first_s == pytest.approx(0.5)
    assert read.gaps_s == pytest.approx([0.2, 0.3])


def test_texts_written_one_after_the_other_count_from_the_request_to_the_last_token() -> None:
    first = Read(0.0, (1.0, 2.0), 20)
    second = Read(0.0, (3.0, 4.0), 20)
    assert served.rate([first, second]) == pytest.approx(10)


def test_texts_written_together_count_as_forebays() -> None:
    reads = [Read(0.0, tuple(1 + n / 10 for n in range(100)), 100) for _ in range(2)]
    assert served.rate(reads) == steady(reads)


async def test_a_stream_that_ends_without_saying_so_is_read_to_its_end() -> None:
    event = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = b"%x\r\n%s\r\n" % (len(event), event)
        writer.write(head + 3 * chunk + b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (read,) = await chats(port, "m", streams=1, tokens=3)
    assert len(read.came) == 3
