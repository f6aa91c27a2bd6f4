"""`python -m tests.bench.counted_worker FILE MODEL`: a worker that notes the rows of each batch."""

import sys
from collections.abc import Sequence
from pathlib import Path

from forebay.cli.main import main
from forebay.inference.assembly import RowRef
from forebay.inference.executor import Executor
from forebay.lanes.consumer import Delivery

if __name__ == "__main__":
    notes = Path(sys.argv[1]).open("a", buffering=1)  # noqa: SIM115 - until the process ends
    run = Executor._run

    def noted(self: Executor, rows: Sequence[RowRef], deliveries: Sequence[Delivery]) -> object:
        notes.write(f"{len(rows)}\n")
        return run(self, rows, deliveries)

    setattr(Executor, "_run", noted)  # noqa: B010
    sys.argv[1:] = ["worker", sys.argv[2]]
    main()
