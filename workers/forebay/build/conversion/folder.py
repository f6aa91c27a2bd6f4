"""What is in a SavedModel's folder, looked at before TensorFlow loads it.

`saved_model.pb` is the graph, `variables/` the weights in a checkpoint of TensorFlow's own, and
`assets/` has files such as vocabularies. None of it is a pickle. But a graph is a program, and some
operators of TensorFlow's read and write files or call back into Python; `saved_model` refuses
those, once it has TensorFlow to read the graph with.
"""

import hashlib
from pathlib import Path

from forebay.contract.errors import BuildFailed

_GRAPH = "saved_model.pb"
_READ = (_GRAPH, "saved_model.pbtxt")
_OF_KERAS = (".keras", ".h5", ".hdf5")

_EXPORT = 'save it with `model.export("folder")` of Keras, or `tf.saved_model.save`'


def check(path: Path) -> None:
    """Make sure that a folder holds a whole SavedModel.

    Raises:
        BuildFailed: it does not; the message names the file, and says what to do.
    """
    if path.suffix in _OF_KERAS and path.is_file():
        raise BuildFailed(f"{path} is a file of Keras, and no SavedModel: {_EXPORT}.")
    if not path.is_dir():
        raise BuildFailed(f"The SavedModel {path} is not there: it is no folder.")
    graph = next((path / name for name in _READ if (path / name).is_file()), None)
    if graph is None:
        raise BuildFailed(f"{path / _GRAPH} is missing: {_EXPORT}, or copy the whole folder.")
    if not graph.stat().st_size:
        raise BuildFailed(f"{graph} is empty: copy the folder again.")
    shards = path / "variables"
    if any(shards.glob("variables.data-*")) and not (shards / "variables.index").is_file():
        raise BuildFailed(f"{shards / 'variables.index'} is missing: copy the folder again.")
    for shard in sorted(shards.glob("variables.data-*-of-*")):
        number = int(shard.name.rpartition("-")[2])
        there = len(list(shards.glob(f"variables.data-*-of-{number:05d}")))
        if there != number:
            raise BuildFailed(
                f"{shards} has {there} of {number} files of weights: copy the folder again."
            )


def sha256_of(path: Path) -> str:
    """Hash over the names and bytes of a folder's files, in order of name."""
    digest = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
