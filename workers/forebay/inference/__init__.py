"""The worker: reads a model's lanes, forms micro-batches, runs them, settles what came out.

worker     the process: connections, signals, roster, the watch over hung forward passes
residents  its models: loaded when there is need and room, unloaded for others or when idle
residency  pure: which of them to load and unload next
slot       one of them, whether or not it is loaded
housing    loads it, serves it, drains it, closes it
loading    what loads, and measures what that takes
replica    one loaded model: joins the lanes, keeps presence and leases, drains
gate       batches of all replicas side by side, or one alone
moves      wakes who waits for a change
stages     take in and prepare, run, settle; they overlap
intake     one lane's way in: lease what there is room for, prepare it
batcher    pure: which rows go into the next micro-batch
execution  the protocol between the stages and what runs batches
executor   the named threads on which model code runs
bisect     finds the rows at fault in a batch that fails
memory     what is freed goes back to the system
rate       how fast this worker is
trouble    says once what goes wrong again and again
ledger     what is leased, and how each lease ends
footprint  what a worker costs, measured in a process of its own
backends/  what executes a model, behind one protocol
steps/     pipelines: models whose steps are other models
watch/     what a worker remembers of what it serves, for drift
tasks/     what a text model does: rows to tokens, values to outputs
"""
