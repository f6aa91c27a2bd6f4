"""What workers count of what they serve, and how two such sketches are compared."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from forebay.assess.drift import (
    LEAST_ROWS,
    StatisticDrift,
    Verdict,
    by_chance,
    compare,
    divergence,
    stability_index,
    worst,
)
from forebay.contract.errors import ArtifactError, InvalidInput
from forebay.contract.model import BackendName, DriftWatch, ModelSpec
from forebay.contract.rows import (
    Classes,
    Embedding,
    Entailment,
    PairRow,
    Row,
    Span,
    Spans,
    Task,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.contract.sketch import OF_OUTPUTS, Reference, Sketch
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.echo import Echo
from forebay.inference.watch import bins
from forebay.inference.watch.sketcher import MOST_NAMES, Sampler, Sketcher
from forebay.inference.watch.watched import Watched, watched
from forebay.storage.artifacts import ArtifactStore
from forebay.storage.references import References

DRAWS = np.random.default_rng(11)


def sketch_of(**counts: dict[str, int]) -> Sketch:
    rows = max(sum(bins_.values()) for bins_ in counts.values())
    return Sketch(rows, rows, counts)


def drawn(shares: list[float], rows: int) -> Sketch:
    counts = DRAWS.multinomial(rows, shares).tolist()
    return sketch_of(size={str(bin_): count for bin_, count in enumerate(counts)})


def only(found: list[StatisticDrift]) -> StatisticDrift:
    (one,) = found
    return one


def test_divergence_is_that_of_scipy_and_the_index_is_its_sum() -> None:
    then, now = {"a": 0.2, "b": 0.5, "c": 0.3}, {"a": 0.4, "b": 0.4, "c": 0.2}
    expected = jensenshannon(list(then.values()), list(now.values()), base=2) ** 2
    assert divergence(then, now) == pytest.approx(expected)
    by_hand = 0.2 * np.log(2) + -0.1 * np.log(0.8) + -0.1 * np.log(2 / 3)
    assert stability_index(then, now) == pytest.approx(by_hand)
    assert (divergence(then, then), stability_index(then, then)) == (0, 0)


@pytest.mark.parametrize("bins_", [2, 5, 20, 64])
def test_what_chance_makes_is_the_quantile_of_chi_square(bins_: int) -> None:
    expected = stats.chi2.ppf(0.999, bins_ - 1) * (1 / 300 + 1 / 500)
    assert by_chance(bins_, 300, 500) == pytest.approx(expected, rel=0.04)
    assert by_chance(1, 300, 500) == 0


def test_samples_of_one_distribution_are_stable_and_others_are_not() -> None:
    even = [0.1] * 10
    tilted = [0.06] * 5 + [0.14] * 5
    other = [0.55] + [0.05] * 9
    assert all(
        only(compare(drawn(even, 200), drawn(even, 150))).verdict is Verdict.STABLE
        for _ in range(50)
    )
    assert only(compare(drawn(even, 5_000), drawn(tilted, 5_000))).verdict is Verdict.SHIFTED
    found = only(compare(drawn(even, 500), drawn(other, 400)))
    assert found.verdict is Verdict.DRIFTED
    assert (found.moves[0].bin, found.rows_then, found.rows_now) == ("0", 500, 400)
    assert found.moves[0].then == pytest.approx(0.1, abs=0.05)
    assert found.moves[0].now == pytest.approx(0.55, abs=0.1)


def test_of_few_rows_nothing_is_said() -> None:
    few = drawn([0.9, 0.1], LEAST_ROWS - 1)
    found = compare(few, drawn([0.1, 0.9], 1_000))
    assert only(found).verdict is Verdict.TOO_FEW
    assert worst(found) is Verdict.TOO_FEW
    assert worst([]) is Verdict.TOO_FEW


def test_a_bin_that_was_empty_is_no_infinity() -> None:
    found = only(compare(sketch_of(size={"1": 500}), sketch_of(size={"2": 500})))
    assert found.verdict is Verdict.DRIFTED
    assert found.psi < 20
    assert found.jsd == pytest.approx(1, abs=0.02)


def test_a_statistic_that_is_gone_altogether_has_drifted() -> None:
    then = Sketch(500, 500, {"label": {"a": 300, "b": 200}, "size": {"8": 500}})
    now = Sketch(500, 500, {"size": {"8": 500}})
    assert {one.statistic: one.verdict for one in compare(then, now)} == {
        "label": Verdict.DRIFTED,
        "size": Verdict.STABLE,
    }


@pytest.mark.parametrize(
    ("number", "bin_"),
    [(0, "0"), (1, "1"), (5, "4"), (6, "6"), (7, "6"), (100, "96"), (10**9, "805306368")],
)
def test_sizes_have_two_bins_a_doubling(number: int, bin_: str) -> None:
    assert bins.size(number) == bin_


def test_numbers_have_bins_whatever_they_are() -> None:
    assert [bins.share(x) for x in (0.0, 0.049, 0.5, 0.999, 1.0)] == [
        "0.00",
        "0.00",
        "0.50",
        "0.95",
        "0.95",
    ]
    assert [bins.share(x) for x in (-3.0, 3.0, float("nan"), 1e300)] == [
        "-2.83",
        "2.83",
        "none",
        "1.05e+06",
    ]
    assert [bins.ratio(x) for x in (1.0, 1.01, 0.0, float("inf"))] == [
        "1.000",
        "1.000",
        "none",
        "none",
    ]


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("a", "latin"),
        ("A", "latin-capital"),
        ("é", "latin-accented"),
        ("ß", "latin-accented"),
        ("λ", "greek"),
        ("ж", "cyrillic"),
        ("ع", "arabic"),
        ("क", "indic"),
        ("ก", "thai"),
        ("か", "kana"),
        ("世", "han"),
        ("한", "hangul"),
        ("\U00020000", "han"),
        ("7", "digit"),
        (".", "punctuation"),
        ("🙂", "symbol"),
        (" ", "space"),
        ("\n", "control"),
        ("\ud800", "control"),
    ],
)
def test_characters_are_told_by_their_alphabet(character: str, name: str) -> None:
    assert bins.alphabet(character) == name


def tokens(*ids: int) -> PreparedRow:
    return PreparedRow(len(ids), np.array(ids, np.int64))


def test_rows_are_counted_by_what_they_are() -> None:
    sketcher = Sketcher(1.0)
    rows: list[Row] = [TextRow("Ab 1"), PairRow("a", "b"), TokensRow((4, 5)), ValueRow(b"{}")]
    ready = [tokens(1, 2, 3), tokens(1, 2, 3), tokens(4, 5), PreparedRow(1, b"{}")]
    sketcher.asked(rows, ready)
    sketcher.asked([TextRow("refused")], [InvalidInput("no")])
    found = Sketch.of_fields(sketcher.take())
    assert (found.inputs, found.outputs) == (4, 0)
    assert found.counts["alphabet"] == {"latin-capital": 1, "latin": 3, "space": 1, "digit": 1}
    assert found.counts["tokens"] == {"3": 2, "2": 1}
    assert found.counts["size"] == {"4": 1, "2": 2, "8": 1}
    assert sum(found.counts["pieces"].values()) == 8
    assert sketcher.take() == {}


def test_outputs_are_counted_by_what_they_are() -> None:
    vector = DRAWS.normal(size=16).astype("<f4")
    scores = np.array([0.72, 0.2], "<f4").tobytes()
    sketcher = Sketcher(1.0)
    sketcher.answered(
        [
            Embedding((vector / np.linalg.norm(vector)).tobytes(), 3),
            Classes(("good", "bad"), scores, 3),
            Entailment(2.0, -1.0, 3),
            Spans((Span("PER", 0.9, "Ada", 0, 3),), 3),
            Value(b'{"a": 1}'),
            Value(b"0.5"),
            Value(b'"secret"'),
        ]
    )
    counts = sketcher.take()
    found = Sketch.of_fields(counts)
    assert found.outputs == 7
    assert found.counts.keys() == OF_OUTPUTS
    assert found.counts["norm"] == {"1.000": 1}
    assert found.counts["label"] == {"good": 1}
    assert found.counts["score"] == {"0.70": 1}
    assert found.counts["margin"] == {"2.83": 1}
    assert found.counts["entity"] == {"PER": 1}
    assert found.counts["answer"].keys() >= {"8", "0.50"}
    assert not any("secret" in field for field in counts)


def test_the_direction_of_a_vector_does_not_depend_on_its_length() -> None:
    vector = DRAWS.normal(size=32).astype("<f4")
    sketcher = Sketcher(1.0)
    sketcher.answered([Embedding((vector * size).tobytes(), 1) for size in (0.1, 1.0, 9.0)])
    assert list(Sketch.of_fields(sketcher.take()).counts["direction"].values()) == [3]
    sketcher = Sketcher(1.0, most_s=float("inf"))
    sketcher.answered(
        [Embedding(DRAWS.normal(size=32).astype("<f4").tobytes(), 1) for _ in range(500)]
    )
    assert len(Sketch.of_fields(sketcher.take()).counts["direction"]) == 16


def test_labels_without_end_take_no_room_without_end() -> None:
    sketcher = Sketcher(1.0)
    score = np.ones(1, "<f4").tobytes()
    for name in range(5_000):
        sketcher.answered([Classes((f"label-{name}",), score, 1)])
    assert len(Sketch.of_fields(sketcher.take()).counts["label"]) <= 2 * MOST_NAMES


def test_what_could_not_be_told_comes_with_the_next() -> None:
    sketcher = Sketcher(1.0)
    sketcher.answered([Value(b"1")])
    counts = sketcher.take()
    sketcher.put_back(counts)
    sketcher.answered([Value(b"1")])
    assert Sketch.of_fields(sketcher.take()).outputs == 2


def test_a_share_of_the_rows_is_looked_at_and_less_of_a_flood() -> None:
    clock: Iterator[float] = iter(float(n) for n in range(100))
    calm = Sampler(0.25, 1e9, lambda: 0.0)
    assert sum(len(calm.chosen(10)) for _ in range(1_000)) == pytest.approx(2_500, rel=0.15)
    busy = Sampler(1.0, 50, lambda: next(clock))
    looked = [len(busy.chosen(5_000)) for _ in range(20)]
    assert sum(looked) / 20 == pytest.approx(50, rel=0.2)
    assert len(Sampler(1.0, 50, lambda: 0.0).chosen(50)) == 50


def test_a_model_is_watched_unless_it_is_echo_or_says_no() -> None:
    echo = ModelSpec(Task.ECHO, BackendName.ECHO)
    assert not echo.is_watched
    assert isinstance(watched(echo, Echo()), Echo)
    told = ModelSpec(Task.ECHO, BackendName.ECHO, drift=DriftWatch(watch=True, sample=1.0))
    backend = watched(told, Echo())
    assert isinstance(backend, Watched)
    prepared = backend.prepare([ValueRow(b"1")], truncate=False)
    assert backend.run([row for row in prepared if isinstance(row, PreparedRow)]) == [Value(b"1")]
    assert Sketch.of_fields(backend.sketcher.take()).counts["size"] == {"1": 1}
    assert (backend.version, backend.streams) == ("echo", 1)


def test_a_reference_that_was_set_holds_for_its_version_only(tmp_path: Path) -> None:
    references = References(ArtifactStore(tmp_path))
    assert references.find("m", version="1") is None
    sketch = Sketch(200, 200, {"size": {"8": 200}})
    references.set(Reference("m", "1", "traffic", sketch))
    assert references.find("m", version="1") == Reference("m", "1", "traffic", sketch)
    assert references.find("m", version="2") is None
    (tmp_path / "references" / "m.json").write_text(json.dumps({"model": "m"}))
    with pytest.raises(ArtifactError, match=r"m\.json can't be read"):
        references.find("m", version="1")
