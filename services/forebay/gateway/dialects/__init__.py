"""One package for each protocol spoken at the edge. A dialect translates, and does nothing else.

It turns a body into rows, asks `dispatch`, and renders what comes back in its own shapes, errors
included. Dialects never import lanes, nor one another.
"""
