"""How good a model is, where its time goes, and whether what it serves has changed.

    measures/    pure: figures of predictions against truth
    forms/       what a line of a data file looks like, by task, and what is counted of it
    lines        a data file, line by line
    local        runs inputs in this process, batched as a worker's are
    evaluation   a data file through a model: measures, with how far chance may have moved them
    chance       intervals and comparisons
    comparison   two evaluations of the same rows
    artifacts    which artifact of a model is meant
    drafts       what drafts are worth to a model that generates text
    profile/     where the time goes
    drift        two samples of what a model was asked and answered
    reference    the sample that a build leaves beside its artifact

It stands above gateway and inference, because it asks as `/v1/predictions` does and runs what a
worker runs: what is measured is what is served (decision 0029).
"""
