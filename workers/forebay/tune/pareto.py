"""Who is beaten in everything by whom. All values here are the better the higher."""

from collections.abc import Sequence

Point = Sequence[float]


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Indices of points by front: those that none dominates, those only the first do, and so on.

    Non-dominated sorting (Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II"), in its plain form: there are never more than some dozens of points.
    """
    left = list(range(len(points)))
    found: list[list[int]] = []
    while left:
        front = [
            index
            for index in left
            if not any(dominates(points[other], points[index]) for other in left)
        ]
        found.append(front)
        left = [index for index in left if index not in front]
    return found
