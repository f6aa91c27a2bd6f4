-- Say that a worker is present and how fast it is, and learn the time of the one clock. What all
-- who are present work off together is kept with the demand, for who has to know how long that takes;
-- and until when somebody is present, and how many rows are to be ready for them, so that who moves
-- rows sees it with the demand that it reads anyway.
--
-- KEYS  1 workers (zset: worker -> present until, ms)  2 rates (hash: worker -> rows a second)
--       3 demand (hash)
-- ARGV  1 worker  2 presence in ms  3 its rows a second, 0 if not known  4 rows that are to be ready
--       for one worker
-- Returns the server's Unix time in microseconds, as a string
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lapses = now + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], lapses, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
local present = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'LIMIT', 0, 1000)
local total = 0
for _, rate in ipairs(redis.call('HMGET', KEYS[2], unpack(present))) do
  total = total + tonumber(rate or 0)
end
redis.call('HSET', KEYS[3], 'rate', string.format('%.3f', total),
  'present', string.format('%.0f', lapses),
  'ready', string.format('%.0f', #present * tonumber(ARGV[4])))
return time[1] .. string.format('%06d', time[2])
