"""Before anything is timed: do all contenders give the same embeddings?"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.bare import BareProcess, Order
from tests.bench.loads import HttpContender, Target, Workload
from tests.bench.texts import make_texts
from tests.bench.vectors import cosine, from_base64

LEAST_COSINE = 0.999
"""Below it, a system runs another model, other tokens or gives rows back in another order."""

TEXTS = 32
TIMEOUT_S = 30.0


class WrongAnswerError(RuntimeError):
    """A contender's embedding is not the model's; the message says whose."""


def check(
    contenders: Sequence[HttpContender],
    bare: BareProcess,
    folder: Path,
    *,
    awake: Callable[[str], AbstractContextManager[None]],
) -> None:
    """Ask each contender for some embeddings, all at once, and compare with the model's own.

    Args:
        contenders: who is asked.
        bare: the model itself.
        folder: for the texts.
        awake: lets a contender's programs go on, by its name, while it is asked.

    Raises:
        WrongAnswerError: the first contender that differs.
    """
    texts = make_texts(TEXTS, seed="check")
    path = folder / "check.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n", "utf-8")
    expected = [from_base64(v) for v in bare.run(Order("embed", str(path))).vectors]
    for contender in contenders:
        target = contender.targets.get(Workload.MINILM)
        if target is None:
            continue
        with awake(contender.name), ThreadPoolExecutor(TEXTS) as pool:
            found = list(pool.map(lambda text, to=target: _ask(to, text), texts))
        lowest = min(cosine(a, b) for a, b in zip(found, expected, strict=True))
        if lowest < (target.least_cosine or LEAST_COSINE):
            raise WrongAnswerError(
                f"{contender.title} gives another embedding than the bare model: "
                f"cosine {lowest:.4f}."
            )


def _ask(target: Target, text: str) -> list[float]:
    assert target.vector is not None
    try:
        return target.vector(target.ask(text, timeout_s=TIMEOUT_S))
    except (OSError, KeyError, ValueError) as error:
        raise WrongAnswerError(f"{target.url} gives no embedding: {error}") from error
