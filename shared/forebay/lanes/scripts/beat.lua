-- Say that a worker is present, and learn the time of the one clock.
--
-- KEYS  1 workers (zset: worker -> present until, ms)
-- ARGV  1 worker  2 presence in ms
-- Returns the server's Unix time in microseconds, as a string
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return time[1] .. string.format('%06d', time[2])
