"""How PyTorch's threads wait. Imports no PyTorch, so that it can come before it."""

import os

PASSIVE = "OMP_WAIT_POLICY"


def keep_threads_from_spinning() -> None:
    """Have threads that wait for one another sleep; to be called before PyTorch is imported.

    Where gateway and server share the cores, threads that spin cost more than they win (decision
    0010). Whoever sets the variable gets what it says.
    """
    os.environ.setdefault(PASSIVE, "PASSIVE")
