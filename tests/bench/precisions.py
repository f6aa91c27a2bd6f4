"""How much faster an INT8 embedder is than the best FP32 graph, and how close, on given texts.

    python -m tests.bench.precisions minilm TEXTS.txt

The artifact is the built one of the shipped catalog; the FP32 graphs, with attention in its parts
and fused, are made anew of the same source. All run in turns, in three settings: as `minilm` is
served (one thread, two passes at once), one pass on two threads, and one pass on one thread.
"""

import sys
import tempfile
from pathlib import Path

from onnx import ModelProto

from forebay.build import evaluate, fuse, graph, kinds, source, texts
from forebay.build.encoder import Encoder
from forebay.runtime.catalog import read
from forebay.runtime.settings import load
from forebay.storage.artifacts import ArtifactStore

SETTINGS = ((1, 2), (2, 1), (1, 1))


def main(model: str, path: Path) -> None:
    """Print one line on accuracy, and one for each setting and FP32 graph."""
    settings = load().settings
    spec = read(Path(settings.models_file)).find(model)
    built = ArtifactStore(settings.home).open(model).folder / graph.MODEL_FILE
    kind = kinds.read(source.resolve(spec.source).folder, spec.task)
    rows = kind.rows(texts.read(path))
    with tempfile.TemporaryDirectory() as folder:
        exported = kind.export(Path(folder) / "fp32.onnx")
        graphs = {"in its parts": exported, "fused": fuse.attention(exported)[0]}

        def encoder(of: Path | ModelProto, threads: int) -> Encoder:
            return Encoder(of, pad_id=kind.limits.pad_id, threads=threads, output=kind.output)

        expected = kind.values(encoder(exported, 1), rows)
        print(kind.measured(expected, encoder(built, 1), rows))
        for threads, streams in SETTINGS:
            candidate = encoder(built, threads)
            for name, of in graphs.items():
                speed = evaluate.speed(
                    encoder(of, threads), candidate, rows, threads=threads, streams=streams
                )
                print(f"{streams} x {threads} threads, FP32 with attention {name}: {speed}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
