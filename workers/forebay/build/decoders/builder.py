"""A process in which ONNX Runtime GenAI's model builder runs.

    jobs as JSON ─stdin─▶ python -m forebay.build.decoders.builder ─stdout─▶ what went wrong, if so

The builder is a program: imported, it adds its own folder to Python's path, under which such names
as `quantization` lie. Here it bothers nobody, and the memory that the weights took is given back.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from forebay.contract.errors import BuildFailed
from forebay.contract.model import Precision

_OPTIONS = ("hf_token=false", "hf_remote=false", "windowed_kv_cache=false")
"""What the builder is told: no network, no code from the folder, and as many keys and values kept
in layers that look at the last tokens only as in others, so that all layers' slots are alike."""

_DEVICES = {Precision.FP16: "cuda"}
"""For what the builder writes a graph, where that is no CPU. For one in FP16 it leaves out grouped
attention, which ONNX Runtime has there as well."""

_IN_8_BITS = frozenset({"INT8", "UINT8"})
_LAST_WORDS = 400


class Job(msgspec.Struct, frozen=True):
    """A graph to make.

    Attributes:
        source: a Hugging Face folder.
        out: folder for `model.onnx` and its weights; made by the builder.
        precision: of the weights.
        options: what else the builder is told, `name=value` as it names them.
    """

    source: str
    out: str
    precision: Precision
    options: tuple[str, ...] = ()


def run(jobs: Sequence[Job]) -> None:
    """Make graphs in one process, one after the other.

    Raises:
        BuildFailed: one of them can't be made; the message has the builder's reason.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "forebay.build.decoders.builder"],
        input=msgspec.json.encode(jobs),
        # Sets of names have another order in each process, unless they are told not to. What
        # imports this package may not be installed.
        env={**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1",
             "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )  # fmt: skip
    wrong = ran.stdout.decode(errors="replace").strip()
    if ran.returncode and not wrong:
        last = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        wrong = last[-_LAST_WORDS:] or f"it ended with {ran.returncode}"
    if wrong:
        raise BuildFailed(f"ONNX Runtime GenAI's builder can't make the graph: {wrong}")


class Configurations:
    """Reads configurations for the builder, which expects some as transformers 4 had them.

    Args:
        read: transformers' own reader.
    """

    def __init__(self, read: Callable[..., Any]) -> None:
        self._read = read

    def from_pretrained(self, *where: Any, **options: Any) -> Any:
        """A configuration; Gemma 3's two tables of positions are one, and a base beside it."""
        config = self._read(*where, **options)
        tables: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
        if {"full_attention", "sliding_attention"} <= set(tables):
            config.rope_local_base_freq = tables["sliding_attention"]["rope_theta"]
            config.rope_parameters = tables["full_attention"]
        return config


def share_embeddings(model: Any) -> None:
    """Have a graph in 8 bits look up tokens in its last product's weights, where it may.

    The builder does so in 4 bits, where both are the same. In 8 it keeps a second table, in FP32,
    though ONNX Runtime can look up either: SmolLM2's has 113 MB.

    Args:
        model: the builder's base class of all families.
    """
    decide = model.make_tied_embeddings_init

    def init(self: Any, config: Any) -> None:
        decide(self, config)
        if (
            self.onnx_dtype.name in _IN_8_BITS
            and self.extra_options.get("shared_embeddings")
            and self.is_lm_head_quantized()
        ):
            self.tied_quantized_embeddings, self.tied_unquantized_embeddings = True, False

    model.make_tied_embeddings_init = init


def main() -> None:
    """Run the jobs that stdin has, and say on stdout what went wrong."""
    jobs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Job])
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        from onnxruntime_genai.models import builder

        share_embeddings(builder.Model)
        builder.AutoConfig = Configurations(builder.AutoConfig.from_pretrained)
        for job in jobs:
            device = _DEVICES.get(job.precision, "cpu")
            where = (None, job.source, job.out, job.precision.value, device)
            with tempfile.TemporaryDirectory() as cache:
                try:
                    options = builder.parse_extra_options(*where, cache, [*_OPTIONS, *job.options])
                    builder.create_model(*where, cache, **options)
                except Exception as error:  # whatever it does with a model it doesn't know
                    said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
                    answer.write(f"{job.source} in {job.precision.value}: {said[:_LAST_WORDS]}")
                    return


if __name__ == "__main__":
    main()
