"""Process plumbing: settings, the model catalog, Redis clients, logging, the processor,
names of processes.
"""
