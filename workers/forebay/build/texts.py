"""The texts a build calibrates on and, apart from those, the texts it measures on."""

from importlib.resources import files

SAMPLES = (
    "ready",
    "Is there a train to the coast tonight?",
    "The first request pays for nothing when the model has run before it arrives.",
    "A forebay is the pool ahead of a turbine: it takes water as it comes, in floods and in "
    "trickles, and feeds the turbines an even flow, so that none of them runs dry while another "
    "has more than it can use.",
)
"""What a worker runs before it reports ready; kept in the manifest."""

_CALIBRATION_EVERY = 3


def calibration() -> list[str]:
    """A third of the texts: they set the smoothing."""
    return _all()[::_CALIBRATION_EVERY]


def evaluation() -> list[str]:
    """The others: they make the report."""
    return [text for index, text in enumerate(_all()) if index % _CALIBRATION_EVERY]


def _all() -> list[str]:
    return (files("forebay.build") / "data" / "texts.txt").read_text("utf-8").splitlines()
