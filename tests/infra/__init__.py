"""What runs Forebay on other machines: rendered, checked against its schemas, and run."""
