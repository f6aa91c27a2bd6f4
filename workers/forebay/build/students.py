"""Distillation: a smaller model of the same family, trained on what the model answers.

The student starts as some of the model's own layers, spread over its depth, the first and the last
among them, with all else as it is (as DistilBERT, Sanh et al. 2019, 1910.01108, took every second).
It is then trained on texts to give the model's embeddings (loss: 1 - cosine) or its logits
(squared difference: Ba and Caruana 2014, 1312.6184). Dropout is off, and the order of rows comes
from the seed: with one number of threads the same weights come out each time.
"""

import copy
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forebay.build import heads, tracing
from forebay.build.encoder import SEGMENTS, Pair, Row, bucketed
from forebay.build.kinds import TextKind
from forebay.contract.errors import BuildFailed
from forebay.contract.recipe import DistillSpec
from forebay.contract.rows import Task

_WARM_UP = 0.1
_CLIP = 1.0
_WINDOW_BATCHES = 8


def cut(folder: Path, task: Task, layers: int, out: Path) -> tuple[int, ...]:
    """Save the model in `folder` with fewer layers at `out`, as a Hugging Face folder.

    Returns:
        Which layers it has, the first being 0.

    Raises:
        BuildFailed: the model has no more layers than that, or none that can be taken out.
    """
    import torch

    kind = heads.AUTO_CLASSES.get(task, "AutoModel")
    with tracing.quiet():
        teacher = tracing.load(kind, folder, unused=("pooler.",))
        config = teacher.config
        count = config.num_hidden_layers
        if layers >= count:
            raise BuildFailed(
                f"The model in {folder} has {count} layers: `build.distill.layers` must be fewer."
            )
        path = _layers_path(folder, teacher, count)
        chosen = tuple(round(index * (count - 1) / max(1, layers - 1)) for index in range(layers))
        smaller = copy.deepcopy(config)
        for name, value in vars(config).items():  # what is said of each layer
            if isinstance(value, list) and len(value) == count:
                setattr(smaller, name, value[:layers])
        smaller.num_hidden_layers = layers
        with torch.random.fork_rng(devices=[]):
            student = type(teacher)(smaller)
        student.load_state_dict(_taken(teacher.state_dict(), path, chosen))
        shutil.copytree(
            folder, out, ignore=shutil.ignore_patterns("*.safetensors*", "*.bin", "*.onnx")
        )
        student.save_pretrained(out)
    return chosen


def train(
    teacher: TextKind,
    student: TextKind,
    rows: Sequence[Row],
    spec: DistillSpec,
    out: Path,
    *,
    progress: Callable[[float], None] = lambda _: None,
) -> float:
    """Train a student on what its teacher answers, and save it at `out`, where it was cut.

    Args:
        teacher: the whole model.
        student: the cut one.
        rows: of the texts to train on.
        spec: how.
        out: the student's folder.
        progress: told the share of the work done, 0..1.

    Returns:
        The mean loss over the last tenth of the steps.

    Raises:
        BuildFailed: the loss is no number any more.
    """
    import torch

    model, guide = student.module(), teacher.module()
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=spec.learning_rate)
    batches = list(_batches(rows, spec))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate(len(batches)))
    losses: list[float] = []
    answers = _answers(guide, teacher, rows)
    loss_of = _distance if teacher.head is None else _difference
    for step, batch in enumerate(batches):
        progress(step / len(batches))
        got = model(**_feed([rows[index] for index in batch], teacher))
        loss = loss_of(got, [answers[index] for index in batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, _CLIP)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise BuildFailed(
                f"The student's training broke down at step {step + 1} of {len(batches)}: lower "
                "`build.distill.learning_rate`."
            )
    with tracing.quiet():
        model.body.save_pretrained(out)
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _layers_path(folder: Path, model: Any, count: int) -> str:
    """Where a model keeps its layers, such as `bert.encoder.layer`."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return str(name)
    raise BuildFailed(
        f"The model in {folder} keeps its {count} layers in no list, so none can be taken out: "
        "leave `build.distill` out."
    )


def _taken(state: dict[str, Any], path: str, chosen: Sequence[int]) -> dict[str, Any]:
    """A student's weights out of its teacher's."""
    taken: dict[str, Any] = {}
    for name, value in state.items():
        if not name.startswith(f"{path}."):
            taken[name] = value
            continue
        index, _, rest = name.removeprefix(f"{path}.").partition(".")
        for own, theirs in enumerate(chosen):
            if theirs == int(index):
                taken[f"{path}.{own}.{rest}"] = value
    return taken


def _batches(rows: Sequence[Row], spec: DistillSpec) -> Iterator[list[int]]:
    """Batches of all epochs: rows shuffled, then sorted by length in windows, against padding."""
    order = np.random.default_rng(spec.seed)
    window = spec.batch_rows * _WINDOW_BATCHES
    for _ in range(spec.epochs):
        shuffled = order.permutation(len(rows)).tolist()
        batches: list[list[int]] = []
        for start in range(0, len(rows), window):
            part = sorted(shuffled[start : start + window], key=lambda index: len(rows[index]))
            batches += [
                part[first : first + spec.batch_rows]
                for first in range(0, len(part), spec.batch_rows)
            ]
        for index in order.permutation(len(batches)):
            yield batches[index]


def _rate(steps: int) -> Callable[[int], float]:
    """The learning rate as a share of the highest: up over the first tenth, then down to 0."""
    rise = max(1, round(steps * _WARM_UP))
    return lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def _feed(rows: Sequence[Row], kind: TextKind) -> dict[str, Any]:
    import torch

    shape = len(rows), max(len(row) for row in rows)
    ids = np.full(shape, kind.limits.pad_id, np.int64)
    mask, segments = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        length = len(row)
        ids[index, :length] = row.ids if isinstance(row, Pair) else row
        mask[index, :length] = 1
        if isinstance(row, Pair):
            segments[index, :length] = row.segments
    feed = {"input_ids": ids, "attention_mask": mask}
    if kind.head is not None and kind.head.segments:
        feed[SEGMENTS] = segments
    return {name: torch.from_numpy(value) for name, value in feed.items()}


def _answers(model: Any, kind: TextKind, rows: Sequence[Row]) -> list[Any]:
    """What the teacher makes of each row, its padding cut off."""
    import torch

    answers: list[Any] = [None] * len(rows)
    with torch.no_grad():
        for batch in bucketed(rows):
            values = model(**_feed([rows[index] for index in batch], kind))
            for index, value in zip(batch, values, strict=True):
                answers[index] = value[: len(rows[index])] if value.ndim == 2 else value
    return answers


def _distance(got: Any, wanted: Sequence[Any]) -> Any:
    """Mean of 1 - cosine, of embeddings `[rows, dimensions]`."""
    import torch

    return (1 - torch.nn.functional.cosine_similarity(got, torch.stack(list(wanted)))).mean()


def _difference(got: Any, wanted: Sequence[Any]) -> Any:
    """Mean squared difference of logits, `[rows, labels]` or `[rows, tokens, labels]`."""
    import torch

    if got.ndim == 2:
        return torch.nn.functional.mse_loss(got, torch.stack(list(wanted)))
    own = torch.cat([value[: len(one)] for value, one in zip(got, wanted, strict=True)])
    return torch.nn.functional.mse_loss(own, torch.cat(list(wanted)))
