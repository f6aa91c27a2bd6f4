"""Tests, by what they need: `unit` nothing, `contract` golden files, `integration` a server."""
