"""How many replicas each model has: looks at its lanes, decides, and has workers started or ended.

    lanes ──sample──▶ policy ──replicas──▶ target: processes of this machine
      └──wake (pub/sub, from zero)──▶ loop, once a second, and at once when woken

    policy    pure: what there is and the time in, replicas out
    sampler   asks Redis what there is
    loop      looks, decides, has it done, tells what it wants
    targets/  what starts and ends replicas

A model whose least and most are the same is never looked at. Nothing here is needed for what is
queued to be safe: without it, workers stay as many as they are.
"""
