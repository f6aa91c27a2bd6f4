"""Networks in PyTorch over slots, against transformers: the same texts, and the same in company."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from forebay.build.decoders.measure import Reference
from forebay.contract.errors import ArtifactError, BackendFailed
from forebay.contract.generation import Sampling
from forebay.contract.model import Precision
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer
from forebay.networks.decoder import TorchDecoder
from tests.fixtures import decoders
from tests.fixtures.decoders import FAMILIES
from tests.fixtures.engines import SavedNetwork, finish, saved_network
from tests.fixtures.writing import Text, wanted

TOKENS = 12
TOLD = Sampling(temperature=0, max_tokens=TOKENS, ignore_end=True, logprobs=2)

OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt-neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {}),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 4}),
}
"""Families that have no graph here."""

OF_EXPERTS = "mixtral"
"""An expert is given the rows that chose it: their number varies, and so do the last bits."""


@pytest.fixture(autouse=True)
def every_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have those saved too that have no graph."""
    for name, family in OTHERS.items():
        monkeypatch.setitem(FAMILIES, name, family)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Threads that wait for one another on a busy machine take most of the time."""
    torch.set_num_threads(1)


def requests() -> list[Wanted]:
    """Four of different lengths, some of them longer than a part."""
    draws = np.random.default_rng(3)
    return [
        wanted(id_, draws.integers(3, 500, length).tolist(), TOLD)
        for id_, length in enumerate((5, 31, 12, 40))
    ]


def engine(tiny: SavedNetwork, session: TorchDecoder | None = None) -> ContinuousEngine:
    """An engine on a session, which knows nothing of what was run there before."""
    vocabulary = Vocabulary(open_tokenizer(tiny.folder / TOKENIZER_FILE))
    return ContinuousEngine(session or tiny.session(), vocabulary, tiny.decoder.end_ids)


def told(text: Text) -> tuple[object, ...]:
    """With logprobs, which are the same only where all bits of the logits are."""
    return text.text, text.tokens, text.logprobs


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_texts_are_those_of_transformers_and_the_same_bits_in_any_company(
    family: str, tmp_path: Path
) -> None:
    tiny = saved_network(family, tmp_path)
    together = finish(engine(tiny), requests())
    quiet = tiny.session()
    for request in requests() if family != OF_EXPERTS else ():
        alone = finish(engine(tiny, quiet), [request])[request.id]
        assert told(together[request.id]) == told(alone)
    reference = Reference(tmp_path / "source")
    for request in requests()[:2]:
        expected = reference.write(np.asarray(request.prompt.data), tokens=TOKENS)
        assert list(together[request.id].tokens) == expected
    assert len({token for text in together.values() for token in text.tokens}) > TOKENS


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16, Precision.INT8])
def test_fewer_bits_come_to_the_same_in_any_company(precision: Precision, tmp_path: Path) -> None:
    tiny = saved_network("llama", tmp_path, precision=precision)
    together = finish(engine(tiny), requests())
    quiet = tiny.session()
    for request in requests():
        alone = finish(engine(tiny, quiet), [request])[request.id]
        assert told(together[request.id]) == told(alone)


def test_a_prompt_comes_to_the_same_wherever_it_is_cut(tiny_network: SavedNetwork) -> None:
    ids = np.asarray(requests()[3].prompt.data)
    session = tiny_network.session(slots=2, part=16)
    logits = []
    for sizes in ((16, 16, 8), (3, 16, 5, 16), (16, 2, 16, 6)):
        filled = 0
        for size in sizes:
            made = session.prefill(1, ids[filled : filled + size], filled=filled)
            filled += size
        logits.append(made.copy())
    assert all(np.array_equal(one, logits[0]) for one in logits)


def test_keys_and_values_that_are_no_numbers_end_their_text_alone(
    tiny_network: SavedNetwork,
) -> None:
    session = tiny_network.session(slots=3)
    running = engine(tiny_network, session)
    many = requests()[:3]
    texts = {request.id: Text() for request in many}
    for request in many:
        running.submit(request)
    damaged = False
    while running.busy:
        for delta in running.step():
            texts[delta.id].add(delta)
        if not damaged and all(text.tokens for text in texts.values()):
            kept = session.pool.take(1, 5)
            session.pool.put(1, [(keys * np.nan, values) for keys, values in kept])
            damaged = True
    (failed,) = [id_ for id_, text in texts.items() if text.error is not None]
    assert isinstance(texts[failed].error, BackendFailed)
    quiet = tiny_network.session(slots=3)
    for request in many:
        alone = finish(engine(tiny_network, quiet), [request])[request.id]
        if request.id != failed:
            assert told(texts[request.id]) == told(alone)
        again = finish(running, [msgspec.structs.replace(request, id=10)])[10]
        assert told(again) == told(alone), "nothing of it is left in the slot"


def test_a_model_whose_layers_keep_a_state_is_refused(tmp_path: Path) -> None:
    import transformers

    known: Any = transformers
    settings = known.MambaConfig(
        hidden_size=32, state_size=4, num_hidden_layers=1, vocab_size=64, expand=1
    )
    body = known.MambaForCausalLM(settings).eval()
    with pytest.raises(ArtifactError, match=r"keep more than keys and values.*all of attention"):
        TorchDecoder(body, slots=1, capacity=8, chunk=4)


def test_a_closed_session_says_so(tiny_network: SavedNetwork) -> None:
    session = tiny_network.session(slots=1)
    session.close()
    with pytest.raises(BackendFailed, match="was closed"):
        session.prefill(0, np.array([5, 6, 7]), filled=0)


def test_a_slot_is_as_large_as_the_manifest_says(tiny_network: SavedNetwork) -> None:
    session = tiny_network.session(slots=1)
    assert session.token_bytes == tiny_network.decoder.token_bytes
    assert tiny_network.decoder.context == decoders.CONTEXT
