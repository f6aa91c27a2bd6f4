-- Put a message that is held back until its time comes.
--
-- KEYS  1 messages that its taker holds (hash)  2 messages whose time has not come (zset)
-- ARGV  1 its place  2 its time (Unix ms)  3 the message
-- Returns 1, or 0 if it is not the taker's any more
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1] .. '\n' .. ARGV[3])
return 1
