"""Weights from the Hugging Face hub, or another that speaks its protocol: `hf:owner/name@COMMIT`.

`huggingface_hub` does the work, and reads its own environment: `HF_TOKEN`, `HF_ENDPOINT`,
`HF_HOME`, `HF_HUB_OFFLINE`. Only what a build reads is fetched, and never a pickle.
"""

import re
from pathlib import Path, PurePosixPath

from forebay.contract.errors import BuildFailed

PREFIX = "hf:"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

TIMEOUT_S = 30.0
"""For asking the hub what a repository holds."""

_WANTED = ("*.json", "*.safetensors", "*.jinja")
_UNWANTED = ("*/*.safetensors",)
"""Weights in folders are those of other formats, or of parts that are not supported."""

_SOURCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(source: str) -> Path:
    """The folder of a repository at one commit, in the hub's cache on this machine.

    What is there already is not fetched again, and then the hub may be out of reach.

    Args:
        source: `hf:owner/name@COMMIT`, with all 40 characters of the commit.

    Raises:
        BuildFailed: there is no such repository, commit or permission; the revision is a name,
            which may mean other weights tomorrow; there are no safetensors; or the hub is out of
            reach.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    match = _SOURCE.fullmatch(source.removeprefix(PREFIX))
    if match is None:
        raise BuildFailed(f"{source!r} is no source: write `hf:owner/name@COMMIT`.")
    repo, revision = match["repo"], match["revision"]
    trouble: BuildFailed | None = None
    try:
        told = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT_S)
    except Exception as error:  # the HTTP library's own errors are among them
        told, trouble = None, _trouble(source, repo, revision, error)
    if revision is None or not _COMMIT.fullmatch(revision):
        named = f"names the revision {revision!r}" if revision else "names no revision"
        pin = told.sha if told is not None else None
        raise BuildFailed(
            f"{source!r} {named}, which may mean other weights tomorrow: pin a commit"
            + (
                f". Today it is `{PREFIX}{repo}@{pin}`."
                if pin
                else f", `{PREFIX}{repo}@COMMIT` with all 40 characters."
                + (f" It can't be told which it is today: {trouble.message}" if trouble else "")
            )
        ) from trouble
    if told is not None:
        _refuse_pickles(source, [file.rfilename for file in told.siblings or ()])
    elif isinstance(trouble, _AbsentError):
        raise trouble
    disable_progress_bars()
    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
            local_files_only=told is None,
        )
    except Exception as error:
        why = trouble or _trouble(source, repo, revision, error)
        raise BuildFailed(
            f"{source!r} can't be fetched, and is not in the cache on this machine. {why.message}"
        ) from error
    return Path(folder)


class _AbsentError(BuildFailed):
    """The hub has answered that it has, or shows, no such thing."""


def _refuse_pickles(source: str, names: list[str]) -> None:
    at_top = [name for name in names if len(PurePosixPath(name).parts) == 1]
    if any(name.endswith(".safetensors") for name in at_top):
        return
    pickled = sorted(name for name in at_top if name.endswith(PICKLED))
    if pickled:
        raise BuildFailed(
            f"{source!r} has its weights only as {pickled[0]}, a pickle, which can run any code "
            "when it is loaded. Forebay reads safetensors only: pin a revision that has them (many "
            "repositories have one as a pull request), or convert them and name the folder."
        )
    raise BuildFailed(f"{source!r} has no weights: there is no model.safetensors in it.")


def _trouble(source: str, repo: str, revision: str | None, error: Exception) -> BuildFailed:
    """Why the hub gave nothing."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = constants.ENDPOINT
    match error:
        case GatedRepoError():
            return _AbsentError(
                f"{repo} at {hub} is gated: accept its terms there, and set HF_TOKEN to a token of "
                "whoever did."
            )
        case RevisionNotFoundError():
            return _AbsentError(
                f"{repo} at {hub} has no revision {revision!r}: correct {source!r}."
            )
        case RepositoryNotFoundError():
            return _AbsentError(
                f"There is no model {repo} at {hub}, or it is private: correct {source!r}, or set "
                "HF_TOKEN to a token that may read it."
            )
        case _:
            said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            return BuildFailed(f"The hub at {hub} can't be asked for {repo}: {said}.")
