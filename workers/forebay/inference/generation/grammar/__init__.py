"""Texts that are held to a form: a JSON schema, a regular expression, calls of tools.

    format, tools ─▶ grammars ─▶ Held ─▶ guide ─▶ logits: only tokens that may come next
                     (prepared)           (in each step)
                       Held ─▶ calls ─▶ content, and pieces of calls

A grammar is compiled while a row is prepared, off the thread that steps; in a step it costs some
microseconds a text. The library is llguidance (decision 0043).

grammars  compiles, and remembers what it compiled
tokens    a model's vocabulary, as llguidance takes it
lark      writes the grammar of an answer that may call tools
guide     one text's place in its grammar
calls     reads calls out of a text as it grows
"""
