"""The protocol's messages: `open_inference.proto`, and what `make proto` makes of it."""
