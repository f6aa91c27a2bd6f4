-- Record a new batch, and have it worked on. Entries of the index that are older than what is kept
-- of any go.
--
-- KEYS  1 batch (hash)  2 open batches (zset)  3 index (zset, by id)
-- ARGV  1 its id  2 what the index begins with, as an id  3 window in ms  4 the request
-- Returns 1
if redis.call('EXISTS', KEYS[1]) == 0 then
  local now = now_ms()
  redis.call('HSET', KEYS[1], 'st', 'validating', 'rq', ARGV[4],
    'ct', string.format('%.0f', now), 'ex', string.format('%.0f', now + tonumber(ARGV[3])))
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
  redis.call('ZADD', KEYS[3], 0, ARGV[1])
  redis.call('ZREMRANGEBYLEX', KEYS[3], '-', '(' .. ARGV[2])
end
return 1
