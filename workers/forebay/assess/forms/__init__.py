"""What a line of a data file looks like, and what is counted of each row, by task.

base       what forms have in common
load       a task's form, by the fields of a file's first line
labels     a text and its label, or its labels; zero-shot too
spans      a text and its entities, or tokens and their tags
ranking    a query, documents, and which are relevant
likeness   pairs with a score, and triplets
images     an image and its label, or its labels
tensors    tensors with those that are expected
values     any input with the very output that is expected
"""
