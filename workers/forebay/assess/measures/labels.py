"""Predicted labels against true ones: accuracy, precision, recall, F1, confusions, calibration."""

import msgspec
import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Tally(msgspec.Struct, frozen=True):
    """How often each label was found, made up and missed; int64 `[labels]` each.

    Attributes:
        hits: predicted and true.
        extra: predicted and not true.
        missed: true and not predicted.
    """

    hits: Counts
    extra: Counts
    missed: Counts

    @property
    def support(self) -> Counts:
        """How often each label is true."""
        return self.hits + self.missed

    @property
    def precision(self) -> Values:
        """Of each label, the share of predictions that are true; 0 where there is none."""
        return _share(self.hits, self.hits + self.extra)

    @property
    def recall(self) -> Values:
        """Of each label, the share of what is true that was predicted; 0 where there is none."""
        return _share(self.hits, self.support)

    @property
    def f1(self) -> Values:
        """Harmonic mean of both (van Rijsbergen 1979); 0 where neither is."""
        return _share(2 * self.hits, 2 * self.hits + self.extra + self.missed)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that are true or predicted anywhere; 0 without any."""
        seen = self.hits + self.extra + self.missed > 0
        return float(self.f1[seen].mean()) if seen.any() else 0.0

    @property
    def micro_f1(self) -> float:
        """F1 of all labels' counts together; 0 without any."""
        hits, extra, missed = self.hits.sum(), self.extra.sum(), self.missed.sum()
        return float(_share(2 * hits, 2 * hits + extra + missed))


def tally(truth: Codes, predicted: Codes) -> Tally:
    """Count one label a row.

    Args:
        truth: int64 `[rows]`, codes from 0.
        predicted: likewise.
    """
    size = int(max(truth.max(initial=-1), predicted.max(initial=-1))) + 1
    hits = np.bincount(truth[truth == predicted], minlength=size)
    return Tally(
        hits,
        np.bincount(predicted, minlength=size) - hits,
        np.bincount(truth, minlength=size) - hits,
    )


def tally_several(truth: Flags, predicted: Flags) -> Tally:
    """Count any number of labels a row; both bool `[rows, labels]`."""
    return Tally(
        (truth & predicted).sum(0), (~truth & predicted).sum(0), (truth & ~predicted).sum(0)
    )


def confusions(truth: Codes, predicted: Codes, *, most: int) -> list[tuple[int, int, int]]:
    """The commonest mistakes as (true, predicted, rows), the commonest first."""
    wrong = truth != predicted
    pairs, counts = np.unique(
        np.stack([truth[wrong], predicted[wrong]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(pairs[0, at]), int(pairs[1, at]), int(counts[at])) for at in order]


def calibration_error(confidence: Values, correct: Flags, *, bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from being right, on average.

    Naeini et al. 2015, with the bins of Guo et al. 2017 (arXiv 1706.04599): equal widths,
    weighted by rows.

    Args:
        confidence: score of the label told, 0..1, float64 `[rows]`.
        correct: whether it is the true one, bool `[rows]`.
        bins: how many.
    """
    if not len(confidence):
        return 0.0
    # The k-th bin is (k / bins, (k + 1) / bins].
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    sure = np.bincount(at, weights=confidence, minlength=bins)
    right = np.bincount(at, weights=correct, minlength=bins)
    return float(np.abs(sure - right).sum() / len(confidence))


def _share(part: Counts, whole: Counts) -> Values:
    share = np.zeros(np.shape(whole))
    return np.divide(part, whole, out=share, where=np.asarray(whole) > 0)
