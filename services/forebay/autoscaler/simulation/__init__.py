"""What policies would have done under a load: `forebay autoscale simulate`. Nothing here is real.

traces ──▶ world (lane, replicas, time) ◀──▶ scaler (Forebay's policy, or what others do)
                 │
                 └──▶ outcome ──▶ report: replica-hours, queue times, a plot
"""
