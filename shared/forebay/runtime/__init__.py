"""Process plumbing: settings, catalog, Redis clients, logging, the processor, process names."""
