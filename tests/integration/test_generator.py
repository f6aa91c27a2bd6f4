"""A model that generates, from its artifact: what it takes, what it refuses, what it can't load."""

import shutil
from pathlib import Path

import msgspec
import pytest
from tokenizers import Tokenizer

from forebay.build.decoders.pipeline import SAMPLES
from forebay.build.draft import manifest_of
from forebay.contract.errors import ArtifactError, ConfigurationError, InvalidInput, TooLong
from forebay.contract.generation import GenerationTable, Guesses, Message, Sampling, Speculation
from forebay.contract.manifest import Manifest
from forebay.contract.model import BackendName, ModelSpec, Precision
from forebay.contract.rows import ChatRow, Options, Row, Task, TextRow, TokensRow, ValueRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.providers import CUDA
from forebay.inference.generation.onnx import GraphGenerator, threads_of
from forebay.inference.generation.protocol import Wanted, WithDrafts
from forebay.storage.artifacts import Artifact
from tests.fixtures.decoders import CONTEXT, SPECIAL
from tests.fixtures.writing import GREEDY, Tiny, run

TABLE = GenerationTable(slots=2)
DRAFTED = GenerationTable(slots=2, speculation=Speculation.DRAFT, draft="other")


def manifest(tiny: Tiny) -> Manifest:
    spec = ModelSpec(
        task=Task.GENERATION,
        backend=BackendName.ONNX,
        source="folder",
        precision=Precision.INT4,
        name="tiny-writer",
    )
    return manifest_of(
        spec, tiny.folder, source_sha256="0" * 64, samples=SAMPLES, decoder=tiny.decoder
    )


@pytest.fixture(scope="module")
def generator(tiny_llama: Tiny) -> GraphGenerator:
    return GraphGenerator(tiny_llama.folder, manifest(tiny_llama), TABLE, threads=1)


def refused(generator: GraphGenerator, row: Row, **asked: object) -> InvalidInput:
    options = Options(sampling=msgspec.convert(asked, Sampling) if asked else None)
    (_, refusal) = generator.prepare([TextRow("sound"), row], truncate=True, options=options)
    assert isinstance(refusal, InvalidInput)
    assert refusal.row == 1
    return refusal


def test_a_graph_has_no_more_threads_than_heads_of_attention(
    tiny_llama: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    own = manifest(tiny_llama)
    assert [threads_of(own, threads) for threads in (1, 64)] == [1, 64], "nobody said how many"
    told = msgspec.structs.replace(own, heads=2)
    assert [threads_of(told, threads) for threads in (1, 2, 3, 64)] == [1, 2, 2, 2]
    assert told.digest == own.digest, "of what was built before it is the same"
    caplog.clear()
    GraphGenerator(tiny_llama.folder, told, TABLE, threads=3).close()
    assert "tiny-writer: 2 threads, and not 3" in caplog.text


def test_a_model_that_drafts_tells_what_came_of_it(tiny_llama: Tiny) -> None:
    own = manifest(tiny_llama)
    off = msgspec.structs.replace(TABLE, speculation=Speculation.OFF)
    plain = GraphGenerator(tiny_llama.folder, own, off, threads=1)
    plain.warm()
    assert isinstance(plain, WithDrafts)
    assert plain.guesses is None
    drafting = GraphGenerator(tiny_llama.folder, own, TABLE, threads=1)
    drafting.warm()
    assert drafting.guesses == Guesses(0, 0), "of the samples nothing is told"
    assert Guesses(0, 0).rate == 0
    assert Guesses(4, 3).rate == 0.75
    for model in (plain, drafting):
        model.close()


def test_a_text_and_a_chat_become_prompts_and_are_gone_on_from(
    generator: GraphGenerator, tiny_llama: Tiny
) -> None:
    chat = ChatRow((Message("user", "the pool"),))
    rows: list[Row] = [TextRow("the pool"), chat, TokensRow((5, 6, 7))]
    generator.warm()
    prepared = generator.prepare(rows, truncate=False)
    prompts = [row for row in prepared if isinstance(row, PreparedRow)]
    rendered = f"{SPECIAL[1]}user\nthe pool{SPECIAL[2]}\n{SPECIAL[1]}assistant\n"
    decoded = [
        tiny_llama.tokenizer.decode(row.data, skip_special_tokens=False) for row in prompts[:2]
    ]
    assert decoded == ["the pool", rendered]
    assert prompts[2].data.tolist() == [5, 6, 7]
    texts = run(
        generator.engine, *(Wanted(id_, prompt, GREEDY) for id_, prompt in enumerate(prompts))
    )
    assert [len(text.tokens) for text in texts.values()] == [12, 12, 12]
    assert {text.cached for text in texts.values()} == {0}, "nothing is found of the samples"


@pytest.mark.parametrize(
    "table",
    [TABLE, DRAFTED, msgspec.structs.replace(TABLE, speculation=Speculation.OFF)],
    ids=lambda table: table.speculation,
)
def test_a_text_is_the_same_whoever_drafts(
    generator: GraphGenerator, tiny_llama: Tiny, table: GenerationTable
) -> None:
    own = manifest(tiny_llama)
    other = Artifact(tiny_llama.folder, own, current=True) if table.draft else None
    drafting = GraphGenerator(tiny_llama.folder, own, table, threads=1, draft=other)
    drafting.warm()
    (prompt,) = generator.prepare([TextRow("the pool and the pool")], truncate=False)
    assert isinstance(prompt, PreparedRow)
    texts = [run(one.engine, Wanted(1, prompt, GREEDY))[1] for one in (generator, drafting)]
    assert texts[0].what == texts[1].what
    drafting.close()


def test_a_model_of_other_words_can_t_draft(tiny_llama: Tiny, tmp_path: Path) -> None:
    def drafted_by(other: Artifact) -> None:
        GraphGenerator(tiny_llama.folder, manifest(tiny_llama), DRAFTED, threads=1, draft=other)

    folder = shutil.copytree(tiny_llama.folder, tmp_path / "other")
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.add_tokens(["sluice"])
    words.save(str(folder / "tokenizer.json"))
    own = msgspec.structs.replace(manifest(tiny_llama), model="other")
    with pytest.raises(ConfigurationError, match="'other', which has another tokenizer"):
        drafted_by(Artifact(folder, own, current=True))
    silent = msgspec.structs.replace(own, decoder=None)
    with pytest.raises(ConfigurationError, match="'other', which generates no text"):
        drafted_by(Artifact(folder, silent, current=True))


def test_a_prompt_without_room_is_refused_with_its_lengths(generator: GraphGenerator) -> None:
    refusal = refused(generator, TokensRow((5,) * 120), m=9)
    assert isinstance(refusal, TooLong)
    assert "120 tokens" in refusal.message
    assert "128 together" in refusal.message
    assert isinstance(refused(generator, TokensRow((5,) * CONTEXT)), TooLong)
    assert isinstance(refused(generator, TextRow("x" * 100_000)), TooLong)


def test_rows_that_are_no_prompts_are_refused(generator: GraphGenerator) -> None:
    assert "empty" in refused(generator, TextRow("")).message
    assert "600000 is no token" in refused(generator, TokensRow((600_000,))).message
    assert "takes texts" in refused(generator, ValueRow(b"{}")).message
    (refusal,) = generator.prepare(
        [TextRow("a")], truncate=False, options=Options(sampling=Sampling(logit_bias=((-1, 1.0),)))
    )
    assert isinstance(refusal, InvalidInput)
    assert refusal.param == "logit_bias"


def test_a_model_without_a_template_takes_texts_and_no_chats(tiny_llama: Tiny) -> None:
    plain = msgspec.structs.replace(tiny_llama.decoder, chat=False)
    told = msgspec.structs.replace(manifest(tiny_llama), decoder=plain)
    generator = GraphGenerator(tiny_llama.folder, told, TABLE, threads=1)
    assert "no chat template" in refused(generator, ChatRow((Message("user", "a"),))).message


def test_what_an_artifact_or_a_table_can_not_be_is_said(tiny_llama: Tiny, tmp_path: Path) -> None:
    told = manifest(tiny_llama)

    def error(
        decoder: object, table: GenerationTable = TABLE, folder: Path = tiny_llama.folder
    ) -> str:
        with pytest.raises((ArtifactError, ConfigurationError)) as raised:
            GraphGenerator(
                folder,
                msgspec.structs.replace(told, decoder=decoder),
                table,
                threads=1,
            )
        return raised.value.message

    decoder = tiny_llama.decoder
    assert "generation.context is 129" in error(decoder, GenerationTable(context=129))
    assert "says nothing" in error(None)
    more = msgspec.structs.replace(decoder, layers=3)
    assert "lacks past_key_values.2.key" in error(more)
    fewer = msgspec.structs.replace(decoder, layers=1)
    assert "takes past_key_values.1.key" in error(fewer)
    assert "can't load" in error(decoder, folder=tmp_path)
    with pytest.raises(ConfigurationError, match=r'CUDAExecutionProvider has no .* "fp16"'):
        GraphGenerator(
            tiny_llama.folder, told, TABLE, threads=1, providers=((CUDA, {}), ("CPU", {}))
        )
