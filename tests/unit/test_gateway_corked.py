"""A response is sent in one piece."""

import asyncio

import pytest

from forebay.gateway.corked import MAX_HELD_BYTES, CorkedTransport


class Wire(asyncio.Transport):
    """Keeps what reaches it, a list for each system call there would have been."""

    def __init__(self) -> None:
        super().__init__(extra={"peername": ("127.0.0.1", 1)})
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, list)
        self.sent.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def transport(wire: Wire) -> CorkedTransport:
    return CorkedTransport(wire, asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_of_the_loop_is_sent_together(
    transport: CorkedTransport, wire: Wire
) -> None:
    transport.write(b"head")
    transport.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody", b"next"]


async def test_closing_sends_what_is_held_first(transport: CorkedTransport, wire: Wire) -> None:
    transport.write(b"last")
    transport.close()
    assert (wire.sent, wire.closed) == ([b"last"], True)
    await asyncio.sleep(0)
    assert wire.sent == [b"last"]


async def test_no_more_than_the_bound_is_held(transport: CorkedTransport, wire: Wire) -> None:
    transport.write(b"head")
    transport.write(b"x" * MAX_HELD_BYTES)
    assert len(wire.sent) == 1
    await asyncio.sleep(0)
    assert len(wire.sent) == 1


async def test_everything_else_is_the_inner_transports_own(transport: CorkedTransport) -> None:
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)
