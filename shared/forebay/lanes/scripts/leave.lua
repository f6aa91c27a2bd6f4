-- Say that a worker is gone, and remove its consumers that hold nothing. In one step: a read that
-- the worker has given up may still be answered, and Redis would throw that lease away.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)
--       3 workers (zset: worker -> present until, ms)
--       4 running (hash: worker -> entries it runs)  5 rates (hash: worker -> rows a second)
--       6 demand (hash)  7, 8 what went ahead on these (streams)
-- ARGV  1 group  2 worker
-- Returns how many consumers were removed
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2], ARGV[2] .. ' why')
redis.call('HDEL', KEYS[5], ARGV[2])
local left = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '+inf', 'WITHSCORES')
redis.call('HSET', KEYS[6], 'present', string.format('%.0f', left[#left] or 0))
local removed = 0
for _, lane in ipairs({ KEYS[1], KEYS[2], KEYS[7], KEYS[8] }) do
  if redis.call('EXISTS', lane) == 1 and #redis.call('XINFO', 'GROUPS', lane) > 0
    and #redis.call('XPENDING', lane, ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', lane, ARGV[1], ARGV[2])
    removed = removed + 1
  end
end
return removed
