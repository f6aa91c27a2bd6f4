-- Take batches that nobody holds. Who holds one is known by a mark that none had before: a server that
-- was restarted may have forgotten its last second, and a number would come again.
--
-- KEYS  1 open batches (zset: batch -> held until, ms)
-- ARGV  1 key prefix of batches  2 lease in ms  3 most  4 mark  5 name of the process that takes them
-- Returns their ids
local now = now_ms()
local taken = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  if redis.call('EXISTS', ARGV[1] .. id) == 0 then
    redis.call('ZREM', KEYS[1], id)
  else
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id)
    taken[#taken + 1] = id
    redis.call('HSET', ARGV[1] .. id, 'by', ARGV[4], 'who', ARGV[5])
  end
end
return taken
