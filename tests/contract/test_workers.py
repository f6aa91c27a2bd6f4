"""Cards and orders, to the byte: those who read them may be of another release."""

import msgspec
import pytest

from forebay.contract.errors import ErrorKind
from forebay.contract.generation import Guesses
from forebay.contract.workers import ModelCard, ModelState, Order, OrderAnswer, Verb, WorkerCard

TOLD: list[tuple[msgspec.Struct, bytes]] = [
    (
        WorkerCard(
            "host-7-1f-abc",
            since_ms=1_750_000_000_000,
            rss_bytes=200_000_000,
            memory_bytes=0,
            models=(
                ModelCard("minilm", ModelState.READY, 1, bytes=50_000_000, version="0123456789ab"),
                ModelCard("large", ModelState.ABSENT, 2, away=True, error="It doesn't fit."),
            ),
        ),
        b'{"name":"host-7-1f-abc","since_ms":1750000000000,"rss_bytes":200000000,'
        b'"memory_bytes":0,"models":[{"name":"minilm","state":"ready","since_ms":1,'
        b'"bytes":50000000,"version":"0123456789ab"},{"name":"large","state":"absent",'
        b'"since_ms":2,"away":true,"error":"It doesn\'t fit."}],"v":1}',
    ),
    (
        ModelCard("smollm2", ModelState.READY, 3, guesses=Guesses(drafted=7, accepted=5)),
        b'{"name":"smollm2","state":"ready","since_ms":3,"guesses":{"drafted":7,"accepted":5}}',
    ),
    (
        Order("a1", Verb.UNLOAD, "minilm", until_ms=3),
        b'{"id":"a1","verb":"unload","model":"minilm","until_ms":3,"v":1}',
    ),
    (OrderAnswer(), b"{}"),
    (
        OrderAnswer("There is no such model.", ErrorKind.NOT_FOUND),
        b'{"error":"There is no such model.","kind":"not_found"}',
    ),
]


@pytest.mark.parametrize(("message", "told"), TOLD)
def test_what_is_told_has_the_bytes_it_always_had(message: msgspec.Struct, told: bytes) -> None:
    assert msgspec.json.encode(message) == told
    assert msgspec.json.decode(told, type=type(message)) == message
