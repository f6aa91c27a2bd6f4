"""The manifest of an artifact: what it is, what it takes, and what every file must hash to.

The digest covers what changes answers (files, task, limits), not the report, so the same source
and versions give the same digest however fast the machine was.
"""

import hashlib

import msgspec

from forebay.contract.build_steps import StepReport
from forebay.contract.errors import ArtifactError
from forebay.contract.generation import Speculation
from forebay.contract.image import ImageForm
from forebay.contract.model import BackendName, Precision
from forebay.contract.network import Network
from forebay.contract.rows import Function, Task
from forebay.contract.signature import Conversion
from forebay.contract.tensors import TensorSignature
from forebay.contract.tools import ToolForm

FORMAT_VERSION = 1

_BYTES = {"FP32": 4, "FP16": 2, "BF16": 2}


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the artifact; `path` is relative to its folder."""

    path: str
    bytes: int
    sha256: str


class TextLimits(msgspec.Struct, frozen=True):
    """What a text model takes and gives.

    Attributes:
        max_tokens: longest row, special tokens included.
        dimensions: length of what comes out: an embedding's, or a classifier's number of labels.
        vocabulary: number of token ids.
        pad_id: id used for padding.
        prefix: special ids put before a row's own, for rows given as ids.
        suffix: special ids put after them.
    """

    max_tokens: int
    dimensions: int
    vocabulary: int
    pad_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]


class Head(msgspec.Struct, frozen=True):
    """What a classifier's logits stand for.

    Attributes:
        labels: one a logit.
        function: makes scores of logits where the request asks for no other.
        segments: whether the graph is told which of two texts a token is of, in `token_type_ids`.
        entailment: index of the label that says yes, for zero-shot.
        contradiction: index of the one that is set against it.
        unknown: id of the token that stands for whatever the vocabulary lacks.
    """

    labels: tuple[str, ...]
    function: Function = Function.NONE
    segments: bool = False
    entailment: int | None = None
    contradiction: int | None = None
    unknown: int | None = None


class Decoder(msgspec.Struct, frozen=True):
    """How what generates is run. Of a graph, ONNX Runtime GenAI's builder names the tensors.

    `input_ids` (rows, new), `attention_mask` (rows, longest), and for each layer
    `past_key_values.N.key|value` in and `present.N.key|value` out (rows, kv_heads, capacity,
    head_size); `logits` (rows, new, vocabulary) out.

    Attributes:
        layers: of attention.
        kv_heads: heads of keys and values.
        head_size: numbers a head has for a token.
        cache_type: of keys and values: `FP32`, `FP16` or `BF16`.
        context: most tokens of prompt and text together.
        vocabulary: number of logits.
        end_ids: tokens that end a text.
        chat: whether the artifact has a chat template, `chat_template.jinja`.
        bos: text of the token that begins a text, for the template; likewise `eos`.
    """

    layers: int
    kv_heads: int
    head_size: int
    cache_type: str
    context: int
    vocabulary: int
    end_ids: tuple[int, ...]
    chat: bool = False
    bos: str | None = None
    eos: str | None = None

    @property
    def token_bytes(self) -> int:
        """Memory of one token's keys and values, over all layers."""
        return self.layers * 2 * self.kv_heads * self.head_size * _BYTES[self.cache_type]


class Versions(msgspec.Struct, frozen=True):
    """Versions of the libraries that made the artifact."""

    forebay: str
    torch: str
    transformers: str
    onnx: str
    onnxruntime: str


class Manifest(msgspec.Struct, frozen=True):
    """Describes one artifact.

    Attributes:
        model: the name it was built for.
        source: where the weights came from, as `models.toml` says it.
        source_sha256: hash of the source's weights.
        limits: of a text model.
        samples: texts run before a worker reports ready; none of a model that takes no text.
        files: every file but the manifest and the report.
        head: of a classifier.
        network: what the weights are of; None for a graph, which says so itself.
        image: how a model that takes images is fed.
        signature: the graph's tensors, of a model that takes no text.
        decoder: of a model that generates text.
        tools: how it writes calls of tools, where its chat template has a form for them.
        heads: of attention, in a graph that generates text; 0 where nobody said. The graph's own
            hash stands for it in the digest.
    """

    model: str
    task: Task
    precision: Precision
    source: str
    source_sha256: str
    limits: TextLimits | None
    samples: tuple[str, ...]
    files: tuple[FileEntry, ...]
    versions: Versions
    head: Head | None = None
    format: int = FORMAT_VERSION
    network: Network | None = None
    image: ImageForm | None = None
    signature: TensorSignature | None = None
    decoder: Decoder | None = None
    tools: ToolForm | None = None
    heads: int = 0

    @property
    def digest(self) -> str:
        """Content address: hex SHA-256 over everything that changes an answer."""
        told = (
            self.format,
            self.task,
            self.precision,
            self.limits,
            [(f.path, f.sha256) for f in sorted(self.files, key=lambda f: f.path)],
            *(
                part
                for part in (
                    self.head,
                    self.network,
                    self.image,
                    self.signature,
                    self.decoder,
                    self.tools,
                )
                if part is not None
            ),
        )
        return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()

    @property
    def text(self) -> TextLimits:
        """The limits of a text model.

        Raises:
            ArtifactError: it is none.
        """
        if self.limits is None:
            raise ArtifactError(f"{self.model!r} was built for {self.task.value!r}: no text model.")
        return self.limits

    @property
    def backend(self) -> BackendName:
        """What executes it; what `torch` does of models that generate, `vllm` does too."""
        return BackendName.ONNX if self.network is None else BackendName.TORCH

    @property
    def version(self) -> str:
        """The digest's first 12 characters: what clients see as the version."""
        return self.digest[:12]


class Accuracy(msgspec.Struct, frozen=True):
    """How close an artifact's embeddings are to full precision, on texts it was not tuned on.

    Attributes:
        texts: size of the sample.
        mean_cosine: mean cosine to the FP32 embedding of the same text.
        min_cosine: the lowest of them.
        neighbour_agreement: share of texts whose nearest other text is the same in both.
        invariance: lowest cosine between a text run alone and run among others.
    """

    texts: int
    mean_cosine: float
    min_cosine: float
    neighbour_agreement: float
    invariance: float


class Agreement(msgspec.Struct, frozen=True):
    """How close a classifier's scores are to full precision, on rows it was not tuned on.

    Differences are of scores, 0..1; of a model whose scores are its logits, in standard deviations.

    Attributes:
        rows: size of the sample; tokens, for a model that labels those.
        same: share of rows whose best label is the same; with one label, share of pairs of rows
            that are ranked the same way.
        mean_difference: mean over rows of the largest difference of a score to FP32's.
        max_difference: the largest of all.
        variance: largest difference between a row's score run alone and run among others.
    """

    rows: int
    same: float
    mean_difference: float
    max_difference: float
    variance: float


class Fluency(msgspec.Struct, frozen=True):
    """How close a generating model is to full precision, on a text that nothing is chosen by.

    Attributes:
        tokens: of the text, each predicted from those before it.
        perplexity: of the artifact.
        full_perplexity: of the source in FP32, run by PyTorch.
        ratio: the second perplexity over the first; 1 is as good as full precision.
        same: share of the tokens before which both find the same one the likeliest.
        company: share of prompts that are continued alike alone and among others, greedily.
    """

    tokens: int
    perplexity: float
    full_perplexity: float
    ratio: float
    same: float
    company: float


class Pace(msgspec.Struct, frozen=True):
    """How fast a generating model writes, and what it holds; the bare decode loop, nobody else.

    Attributes:
        tokens_s: of one text alone.
        rows: texts at once.
        rows_tokens_s: of them all together.
        prompt_tokens: of a short prompt.
        first_token_ms: from that prompt to its first token, median.
        token_bytes: memory of one token's keys and values.
        context: most tokens of a prompt and its text, as the model's table says.
        slots: likewise.
    """

    tokens_s: float
    rows: int
    rows_tokens_s: float
    prompt_tokens: int
    first_token_ms: float
    token_bytes: int
    context: int
    slots: int

    @property
    def slot_bytes(self) -> int:
        """Memory of one slot, once it is full."""
        return self.token_bytes * self.context


class Drafts(msgspec.Struct, frozen=True):
    """What drafts are worth: texts written one at a time, plainly and with drafts, which are alike.

    Attributes:
        by: who drafts, a way of `models.toml`.
        model: which model, where one does.
        tokens: of the texts.
        drafted: tokens that were guessed, and checked.
        accepted: how many of those were right.
        tokens_s: written with drafts.
        plain_tokens_s: without.
        ratio: the median over texts of how many times as fast they come with drafts.
    """

    by: Speculation
    tokens: int
    drafted: int
    accepted: int
    tokens_s: float
    plain_tokens_s: float
    ratio: float
    model: str = ""


class Speed(msgspec.Struct, frozen=True):
    """Rows per second of both graphs in one run, bucketed by length, and their ratio.

    Of a model that generates it is tokens per second, of one text alone; PyTorch runs the FP32.

    Attributes:
        ratio: the median over rounds in which one graph runs after the other.
        threads: of one forward pass.
        streams: forward passes at once.
        low: the ratio's first quartile.
        high: its third.
    """

    fp32_rows_s: float
    rows_s: float
    ratio: float
    threads: int
    streams: int = 1
    low: float | None = None
    high: float | None = None


class Footprint(msgspec.Struct, frozen=True):
    """What a worker of a model costs, measured in a fresh process that loads it as a worker does.

    Attributes:
        backend: what executes it.
        import_ms: time to import the worker and the backend's libraries.
        load_ms: time to check the artifact and load the model.
        warm_ms: time to run its samples.
        rss_bytes: resident memory once it is ready.
        peak_rss_bytes: the most it was on the way there.
        imported: those of torch, transformers and onnxruntime that are imported then.
    """

    backend: str
    import_ms: float
    load_ms: float
    warm_ms: float
    rss_bytes: int
    peak_rss_bytes: int
    imported: tuple[str, ...]


class BuildReport(msgspec.Struct, frozen=True):
    """What a build measured; kept beside the manifest as `report.json`.

    Attributes:
        accuracy: of an embedding model.
        agreement: of a classifier.
        smoothing: strength of the smoothing, 0..1; see decision 0005.
        kept_fp32: products in full precision; with `int4-weight-only`, in 8 bits.
        steps: what each step did, in order.
        footprint: what a worker of it costs.
        fluency: of a model that generates.
        pace: likewise.
        conversion: of a source that became an ONNX file.
        drafts: of a model that generates by a graph: what each way to draft is worth.
    """

    speed: Speed
    fp32_bytes: int
    bytes: int
    smoothing: float
    kept_fp32: tuple[str, ...]
    seconds: float
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    steps: tuple[StepReport, ...] = ()
    footprint: Footprint | None = None
    fluency: Fluency | None = None
    pace: Pace | None = None
    conversion: Conversion | None = None
    drafts: tuple[Drafts, ...] = ()
