"""Texts that grow: Forebay behind its gateway, the bare decode loop, and transformers.

subject   what is measured, and its prompts
loops     the same work with nothing around it: the bare loop, the engine, transformers
streams   reads Forebay's streams as clients do, and when each of their events came
"""
