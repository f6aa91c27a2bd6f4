"""The worker: reads a model's lanes, forms micro-batches, runs them, settles what came out.

worker     the process: joins the lanes, keeps presence and leases, drains on SIGTERM
pipeline   the stages, which overlap: take in and prepare, run, settle
intake     one lane's way in: lease what there is room for, prepare it
batcher    pure: which rows go into the next micro-batch
execution  the protocol between the stages and what runs batches
executor   the named threads on which model code runs
bisect     finds the rows at fault in a batch that fails
memory     what is freed goes back to the system
rate       how fast this worker is
trouble    says once what goes wrong again and again
ledger     what is leased, and how each lease ends
backends/  what executes a model, behind one protocol
steps/     pipelines: models whose steps are other models
watch/     what a worker remembers of what it serves, for drift
tasks/     what a text model does: rows to tokens, values to outputs
"""
