"""What is kept in Redis beside the lanes: batches, and what is told to receivers.

keys          every key: type, writer, reader, time to live
scripts       one atomic operation each
outbox        what is to be told, as the lanes' scripts write it
deliveries    what is sent to receivers, how often that was tried, and what came of it
endpoints     receivers that operators have added
signing       what deliveries are signed with
batches       batches of requests; batch_leases, in the hands of who works on them
"""
