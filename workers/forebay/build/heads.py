"""What a Hugging Face folder says about a classifier: labels, what makes scores, limits."""

from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from forebay.build.limits import configuration, text_limits, tokenizer_of
from forebay.contract.errors import BuildFailed
from forebay.contract.manifest import Head, TextLimits
from forebay.contract.rows import Function, Task

AUTO_CLASSES = {
    Task.CLASSIFICATION: "AutoModelForSequenceClassification",
    Task.RERANKING: "AutoModelForSequenceClassification",
    Task.ZERO_SHOT: "AutoModelForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
}


class Form(msgspec.Struct, frozen=True):
    """How a classifier is fed, and what its logits stand for.

    Attributes:
        tokenizer: as transformers uses it, with truncation and padding off.
    """

    tokenizer: Tokenizer
    limits: TextLimits
    head: Head


def read(folder: Path, task: Task) -> Form:
    """Read config.json and the tokenizer, as transformers' pipeline of the task would.

    Raises:
        BuildFailed: a file is missing or broken, or the model isn't one for the task.
    """
    config, tokenizer = configuration(folder), tokenizer_of(folder)
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise BuildFailed(
            f"{folder / 'config.json'} is of a {config.model_type!r} that decodes: classifiers are "
            "built from encoders, such as BERT, DistilBERT, RoBERTa, DeBERTa and ModernBERT."
        )
    wanted = AUTO_CLASSES[task].removeprefix("AutoModel")
    made: tuple[str, ...] = tuple(config.architectures or [])
    if made and not any(name.endswith(wanted) for name in made):
        raise BuildFailed(
            f"{folder / 'config.json'} is of a {made[0]}, and the task {task.value!r} takes a "
            f"model made {wanted}."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BuildFailed(f"The tokenizer in {folder} has no tokenizer.json to serve with.")
    if tokenizer.truncation_side != "right":
        raise BuildFailed(f"The tokenizer in {folder} cuts texts on the left: unsupported.")
    plain = Tokenizer.from_str(backend.to_str())
    plain.no_truncation()
    plain.no_padding()
    head = _head(folder, config, tokenizer, task)
    pad = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
    limits = text_limits(
        folder,
        config,
        plain,
        lengths=[int(tokenizer.model_max_length)] if tokenizer.model_max_length else [],
        dimensions=len(head.labels),
        pad_id=pad,
    )
    return Form(plain, limits, head)


def _head(folder: Path, config: Any, tokenizer: Any, task: Task) -> Head:
    labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    entailment = contradiction = None
    if task is Task.RERANKING and len(labels) != 1:
        raise BuildFailed(
            f"{folder / 'config.json'} has {len(labels)} labels, and a reranker has one: build it "
            "with the task 'classification'."
        )
    if task is Task.ZERO_SHOT:
        entailment = next(
            (i for i, label in enumerate(labels) if label.lower().startswith("entail")), None
        )
        if entailment is None or len(labels) < 2:
            raise BuildFailed(
                f"{folder / 'config.json'} has the labels {', '.join(labels)}: for zero-shot one "
                "must start with 'entail', and another say the contrary."
            )
        contradiction = len(labels) - 1 if entailment == 0 else 0
    return Head(
        labels,
        function=Function.SOFTMAX
        if task is Task.TOKEN_CLASSIFICATION
        else function_of(config.problem_type, len(labels)),
        segments="token_type_ids" in tokenizer.model_input_names
        and getattr(config, "type_vocab_size", 0) > 1,
        entailment=entailment,
        contradiction=contradiction,
        unknown=tokenizer.unk_token_id,
    )


def function_of(problem_type: str | None, labels: int) -> Function:
    """What transformers' pipelines for classification apply."""
    if problem_type == "regression":
        return Function.NONE
    if problem_type == "multi_label_classification" or labels == 1:
        return Function.SIGMOID
    return Function.SOFTMAX
