"""The worker: reads a model's lanes, forms micro-batches, runs them, settles what came out.

worker     the process: joins the lanes, keeps presence and leases, drains on SIGTERM
pipeline   fetch and prepare the next rows while the current micro-batch runs
batcher    pure: which rows go into the next micro-batch
executor   the named threads on which model code runs
backends/  what executes a model, behind one protocol
"""
