"""Turns a manifest into its task. Only the chosen task is imported."""

from pathlib import Path

from forebay.contract import rows
from forebay.contract.errors import ArtifactError
from forebay.contract.manifest import Head, Manifest
from forebay.inference.tasks.base import Task
from forebay.inference.tasks.text import Texts, open_tokenizer

TOKENIZER_FILE = "tokenizer.json"


def load(folder: Path, manifest: Manifest) -> Task:
    """The task of an artifact.

    Args:
        folder: the artifact.
        manifest: its manifest.

    Raises:
        ArtifactError: the tokenizer can't be loaded, or the manifest lacks what the task needs.
    """
    texts = Texts(open_tokenizer(folder / TOKENIZER_FILE), manifest.text)
    match manifest.task:
        case rows.Task.EMBEDDING:
            from forebay.inference.tasks.embedding import Embeddings

            return Embeddings(texts)
        case rows.Task.CLASSIFICATION | rows.Task.RERANKING:
            from forebay.inference.tasks.classification import Classification

            only_pairs = manifest.task is rows.Task.RERANKING
            return Classification(texts, _head(manifest), only_pairs=only_pairs)
        case rows.Task.ZERO_SHOT:
            from forebay.inference.tasks.zero_shot import ZeroShot

            return ZeroShot(texts, _head(manifest))
        case rows.Task.TOKEN_CLASSIFICATION:
            from forebay.inference.tasks.token_classification import TokenClassification

            return TokenClassification(texts, _head(manifest))
        case (
            rows.Task.ECHO
            | rows.Task.PYTHON
            | rows.Task.PIPELINE
            | rows.Task.IMAGE_CLASSIFICATION
            | rows.Task.TENSORS
            | rows.Task.GENERATION
        ) as task:
            raise ArtifactError(f"{folder} holds no text encoder: its task is {task.value!r}.")


def _head(manifest: Manifest) -> Head:
    if manifest.head is None:
        raise ArtifactError(
            f"The manifest of {manifest.model!r} names no labels; run `forebay models build "
            f"{manifest.model}`."
        )
    return manifest.head
