"""Scripts about what is kept beside the lanes."""
