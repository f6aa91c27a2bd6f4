"""Pipelines: models whose steps are other models, each on its own lane.

    lane of the pipeline ──▶ Flows ──▶ user's `run`, on a thread of its own
                               │            │ await models["detector"](rows)
                               │            ▼
                             Caller ◀──── Calls ──── ids from the prediction and the input
                               │ ▲
            lane of the step ◀─┘ └─ reply channel

    model   what a pipeline is: a class with `run`, or a chain
    models  what the user's code calls
    values  its values to rows, and outputs to values
    calls   a row's calls: cut into parts, each with an id that a second run finds again
    caller  puts parts on lanes, however long there is no room, and waits for what they come to
    flows   runs rows, many at a time, and cleans up after them
    thread  the event loop on which a user's code runs, and whose code that is

Rows of a pipeline hold nothing of its steps while they wait, and pipelines call one another in no
circle (`contract.steps`), so nobody can wait for himself.
"""

from forebay.contract.errors import StepFailed
from forebay.inference.steps.models import Models, Step
from forebay.inference.steps.values import Label

__all__ = ["Label", "Models", "Step", "StepFailed"]
