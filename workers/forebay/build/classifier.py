"""The build of classifiers: of texts, of pairs, of parts of texts."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from tokenizers import Tokenizer

from forebay.build import agreement, heads, tracing
from forebay.build.encoder import SEGMENTS, Encoder, Pair, Row, Vectors, bucketed
from forebay.build.texts import Text
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Agreement
from forebay.contract.rows import Task

OUTPUT = "logits"

_SHORT = 7
_MIDDLE = 24


class Classifier:
    """Builds a classifier.

    Args:
        folder: a Hugging Face folder.
        task: what the model is for.

    Raises:
        BuildFailed: the folder holds no model for the task.
    """

    output = OUTPUT
    aim = 0.995

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._task = task
        self._form = heads.read(folder, task)
        self.limits = self._form.limits
        self.head = self._form.head
        self.tokenizer = self._form.tokenizer

    def export(self, out: Path) -> ModelProto:
        """Write the model as one ONNX file at `out`, weights inside, and return it.

        Inputs `input_ids`, `attention_mask` and, where the model tells two texts apart,
        `token_type_ids`, int64 `[rows, tokens]`; output `logits`, float32 `[rows, labels]`, or
        `[rows, tokens, labels]` for parts of texts.

        Raises:
            BuildFailed: the weights can't be loaded or traced, or the graph's output differs
                from what PyTorch makes of each row alone by more than 1e-4.
        """
        axes = ["rows", "tokens"] if self._task is Task.TOKEN_CLASSIFICATION else ["rows"]
        # Two widths, so that nothing of the one that is traced is taken for a constant; and the
        # longest, so that a limit that is too high shows.
        most = min(self.limits.max_tokens, tracing.LONGEST)
        widths = dict.fromkeys(min(width, most) for width in (_MIDDLE, most))
        return tracing.trace(
            self.module(),
            [self._probe(width) for width in widths],
            out,
            output=OUTPUT,
            shape=[*axes, len(self.head.labels)],
            most=self.limits.max_tokens,
            folder=self._folder,
        )

    def module(self) -> Any:
        """The classifier in PyTorch, in FP32.

        Raises:
            BuildFailed: the weights can't be loaded.
        """
        with tracing.quiet():
            return _module(self._folder, self._task, segments=self.head.segments)

    def rows(self, texts: Sequence[Text]) -> list[Row]:
        """Rows of the task's own kind, cut to the limit.

        Where the task takes pairs, single texts make pairs with their neighbours.

        Raises:
            BuildFailed: one of the texts is a pair, and the task takes none.
        """
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        only_first = self._task is Task.ZERO_SHOT
        tokenizer.enable_truncation(
            self.limits.max_tokens, strategy="only_first" if only_first else "longest_first"
        )
        given = [text for text in texts if not isinstance(text, str)]
        if given and (len(given) < len(texts) or self._task is Task.TOKEN_CLASSIFICATION):
            raise BuildFailed(
                f"The task {self._task.value!r} was given {len(given)} pairs among {len(texts)} "
                "texts: give pairs throughout to a task that takes them, and else none."
            )
        if given:
            return _pairs(tokenizer, given)
        single = [text for text in texts if isinstance(text, str)]
        if self._task not in (Task.RERANKING, Task.ZERO_SHOT):
            return [
                np.asarray(encoding.ids, np.int64) for encoding in tokenizer.encode_batch(single)
            ]
        seconds = [*single[1:], single[0]]
        if only_first:
            seconds = [f"This example is {text.split()[0]}." for text in seconds]
        return _pairs(tokenizer, list(zip(single, seconds, strict=True)))

    def values(self, encoder: Encoder, rows: Sequence[Row]) -> Vectors:
        """Scores `[rows, labels]`, or `[tokens, labels]`, run in buckets."""
        return agreement.scores(self.head.function, encoder.logits(rows, bucketed(rows)))

    def closeness(self, expected: Vectors, got: Vectors) -> float:
        """1 less what a row's scores are off by."""
        return 1 - agreement.mean_difference(expected, got, self.head.function)

    def measured(self, expected: Vectors, candidate: Encoder, rows: Sequence[Row]) -> Agreement:
        """How far the candidate agrees with full precision, and with itself in other company."""
        return agreement.measured(expected, candidate, rows, self.head.function)

    def _probe(self, width: int) -> tracing.Feed:
        """Three rows of different lengths, padded to `width`, of ordinary ids."""
        limits = self.limits
        special = {*limits.prefix, *limits.suffix, limits.pad_id}
        ordinary = [id_ for id_ in range(limits.vocabulary) if id_ not in special]
        inner = width - len(limits.prefix) - len(limits.suffix)
        middle = [ordinary[index * 97 % len(ordinary)] for index in range(inner)]
        ids = np.full((3, width), limits.pad_id, np.int64)
        mask, segments = np.zeros_like(ids), np.zeros_like(ids)
        least = len(limits.prefix) + len(limits.suffix) + 1
        for row, length in enumerate((width, max(_SHORT, least), least)):
            cut = middle[: length - least + 1]
            ids[row, :length] = [*limits.prefix, *cut, *limits.suffix]
            mask[row, :length] = 1
            segments[row, length // 2 : length] = 1
        feed = {"input_ids": ids, "attention_mask": mask}
        return {**feed, SEGMENTS: segments} if self.head.segments else feed


def _pairs(tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> list[Row]:
    return [
        Pair(np.asarray(encoding.ids, np.int64), np.asarray(encoding.type_ids, np.int64))
        for encoding in tokenizer.encode_batch(pairs)
    ]


def _module(folder: Path, task: Task, *, segments: bool) -> Any:
    import torch

    body = tracing.load(heads.AUTO_CLASSES[task], folder)
    # Where a model would also look for token types but has none, it is not told any.
    fixed = (
        {"use_cache": False} if "use_cache" in inspect.signature(body.forward).parameters else {}
    )

    class Untyped(torch.nn.Module):
        """The classifier without token types."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            result = self.body(input_ids=input_ids, attention_mask=attention_mask, **fixed)
            return result.logits  # type: ignore[no-any-return]

    class Typed(torch.nn.Module):
        """The classifier with token types."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor,
        ) -> torch.Tensor:
            result = self.body(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
                **fixed,
            )
            return result.logits  # type: ignore[no-any-return]

    return (Typed() if segments else Untyped()).eval()
