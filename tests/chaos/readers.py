"""Clients that read texts while they are generated, whatever happens to those they ask."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tests.chaos.clients import CutOff as NoAnswer
from tests.chaos.clients import Http
from tests.chaos.outcome import Outcome, Tally
from tests.chaos.scene import Scene
from tests.fixtures.cutting import Chat, Client, CutOff, Failed, Reading, Refused

RETRY_S: Final = 0.2
"""Pause before a client that was cut off asks again."""

LATER: Final = frozenset({429, 503})
"""Answers after which it tries again."""

SAMPLINGS: Final[tuple[dict[str, Any], ...]] = (
    {"temperature": 0},
    {"temperature": 1.0, "seed": 47},
    {"temperature": 1.0},
)
"""The most likely text, one drawn by a seed, and one drawn by chance."""


class Wanted(msgspec.Struct):
    """A text that a client wants, and what came of it.

    Attributes:
        number: of the client; every other one reads Replicate's stream, the others a chat.
        body: parameters, and the prompt.
        client: reads it.
        prediction: its id, once it is known.
        error: why there is no text, if that was told.
    """

    number: int
    body: dict[str, Any]
    client: Client | None = None
    prediction: str = ""
    error: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether whoever asks again gets the same text."""
        return self.body["temperature"] == 0 or "seed" in self.body

    @property
    def text(self) -> str:
        """What came."""
        return self.client.text if self.client is not None else ""


class Readers:
    """Clients of several gateways, each of which reads on at the next one when it is cut off.

    Attributes:
        wanted: all texts that anybody asked for.
        setbacks: why clients had to ask again.

    Args:
        gateways: to ask.
        model: that generates.
        cut: after how many bytes a client cuts its connection; None: it never does.
    """

    def __init__(
        self, gateways: Sequence[Http], model: str, *, cut: Callable[[], int | None] = lambda: None
    ) -> None:
        self.wanted: list[Wanted] = []
        self.setbacks: Counter[str] = Counter()
        self._gateways = tuple(gateways)
        self._model = model
        self._cut = cut

    async def read(self, prompt: str, **parameters: Any) -> Wanted:
        """Be a client until it has its text, or was told that there is none."""
        number = len(self.wanted)
        one = Wanted(number, {"prompt": prompt, **parameters})
        self.wanted.append(one)
        client = one.client = Client(await self._asking(one))
        turn = number
        while not client.done and not one.error:
            turn += 1
            gateway = self._gateways[turn % len(self._gateways)]
            try:
                await client.read(gateway.port, most=self._cut())
            except CutOff as error:
                self.setbacks[f"connections {error}"] += 1
                if error.own:
                    continue
            except Refused as error:
                self.setbacks[f"answers {error.status}"] += 1
                if error.status not in LATER:
                    one.error = str(error)
            except Failed as error:
                self.setbacks[f"events that say {error.kind!r}"] += 1
                if await self._has_failed(one, client):
                    one.error = str(error)
            if not client.done:
                await asyncio.sleep(RETRY_S)
        one.prediction = one.prediction or client.prediction
        return one

    async def _asking(self, one: Wanted) -> Chat | Reading:
        if one.number % 2:
            return Chat(f"text-{one.number}", _chat(self._model, one.body))
        body = {"version": self._model, "input": one.body, "stream": True}
        answer = await self._ask("POST", "/v1/predictions", msgspec.json.encode(body), (201,))
        one.prediction = str(msgspec.json.decode(answer)["id"])
        return Reading(one.prediction)

    async def _has_failed(self, one: Wanted, client: Client) -> bool:
        """Whether an error is the prediction's, and not that of the gateway which told it."""
        id_ = one.prediction or client.prediction
        if not id_:
            return False
        told = msgspec.json.decode(await self._ask("GET", f"/v1/predictions/{id_}"))
        return told["status"] in ("failed", "canceled")

    async def output(self, one: Wanted) -> str | None:
        """A text as the job API shows it."""
        if not one.prediction:
            return None
        path = f"/v1/predictions/{one.prediction}"
        told = await self._ask("GET", path, right=(200, 404))
        output: str | None = msgspec.json.decode(told).get("output")
        return output

    async def alone(self, one: Wanted) -> str:
        """What the same request comes to that is not streamed, while nobody breaks anything."""
        if one.number % 2:
            path, body = "/v1/chat/completions", _chat(self._model, one.body)
        else:
            path, body = "/v1/predictions", {"version": self._model, "input": one.body}
        headers = {"prefer": "wait=60"}
        answer = await self._ask("POST", path, msgspec.json.encode(body), (200, 201), headers)
        told = msgspec.json.decode(answer)
        text: str = told["choices"][0]["message"]["content"] if one.number % 2 else told["output"]
        return text

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        right: Sequence[int] = (200,),
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """An answer from whichever gateway gives one."""
        while True:
            gateway = random.choice(self._gateways)
            try:
                answer = await gateway.ask(method, path, body, headers)
            except (NoAnswer, TimeoutError):
                self.setbacks["connections without an answer"] += 1
            else:
                if answer.status in right:
                    return answer.body
                self.setbacks[f"answers {answer.status}"] += 1
            await asyncio.sleep(RETRY_S)


async def judge(readers: Readers, stage: Scene, outcome: Outcome) -> None:
    """Count what became of texts, and note what is not as it must be."""
    tally = outcome.tally = Tally(accepted=len(readers.wanted))
    references: dict[str, str] = {}
    differing = repeated = 0
    for one in readers.wanted:
        assert one.client is not None
        repeated += one.client.repeated
        if one.error:
            tally.failed += 1
            continue
        if not one.client.done:
            tally.lost += 1
            continue
        shown = await readers.output(one)
        same = shown == one.text
        if one.repeatable:
            key = repr((one.number % 2, sorted(one.body.items())))
            if key not in references:
                references[key] = await readers.alone(one)
            same = same and references[key] == one.text
        differing += not same
        tally.succeeded += same
    tally.twice = repeated
    ids = [one.prediction for one in readers.wanted if one.prediction]
    tally.rerun = sum(n > 1 for n in (await stage.audit.attempts(ids)).values())
    outcome.promise(not differing, f"{differing} texts differ from what they are alone")
    outcome.promise(not repeated, f"{repeated} events came twice")
    outcome.promise(not tally.lost, f"{tally.lost} texts have no end")
    outcome.notes.append(f"setbacks of clients: {_told(readers.setbacks)}")


def _told(setbacks: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(setbacks.items())) or "none"


def _chat(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a chat that asks for what a prediction's input does."""
    parameters = {name: value for name, value in body.items() if name != "prompt"}
    messages = [{"role": "user", "content": body["prompt"]}]
    return {"model": model, "messages": messages, **parameters}
