"""Counts the skipped tests of a run, and fails on one that nobody expected.

    python .ci/skips.py results.xml expected-skips

A line of the second file is part of a test's id, a colon and a space, and part of its reason;
lines that start with # say why.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def main() -> None:
    """Compare, tell, and end with 1 if there is a surprise."""
    results, expected_file = map(Path, sys.argv[1:])
    lines = expected_file.read_text("utf-8").splitlines()
    expected = [line.split(": ", 1) for line in lines if line and not line.startswith("#")]
    total = skipped = 0
    surprises: list[str] = []
    for case in ElementTree.parse(results).iter("testcase"):  # noqa: S314 - pytest has just made it
        total += 1
        skip = case.find("skipped")
        if skip is None:
            continue
        skipped += 1
        test = f"{case.get('classname')}.{case.get('name')}"
        reason = skip.get("message") or ""
        if not any(name in test and why in reason for name, why in expected):
            surprises.append(f"{test}: {reason}")
    print(f"{total} tests, {skipped} skipped, {len(surprises)} of them unexpectedly")
    for surprise in surprises:
        print(f"  {surprise}")
    raise SystemExit(bool(surprises) or not total)


if __name__ == "__main__":
    main()
