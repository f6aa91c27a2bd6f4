"""What is taken from the queues of others, by whichever service, and not told the outcome of yet.

    place      messages that a process holds which were lists' of a Redis, and whose they are next
    envelopes  a message as kombu lays it on such a list
    packing    bodies that came compressed: unpacked up to a bound

A queue on a Redis is read by a script, as whoever pops a message and notes it in two steps loses
it if killed between them (kombu does). Other brokers are kombu's to read.
"""
