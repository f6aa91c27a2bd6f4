"""What executes a model, behind one protocol (`base.Backend`), chosen by name (`load.load`)."""
