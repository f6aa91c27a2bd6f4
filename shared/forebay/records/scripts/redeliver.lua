-- Have a delivery tried again from the beginning, at once.
--
-- KEYS  1 delivery (hash)  2 due (zset)  3 waits (hash)
-- ARGV  1 id
-- Returns 1, or 0 if there is no such delivery any more
local now = now_ms()
local found = redis.call('HMGET', KEYS[1], 'st', 'o')
if not found[1] then return 0 end
if found[1] ~= 'waiting' then wait_more(KEYS[3], found[2], 1) end
redis.call('HSET', KEYS[1], 'st', 'waiting', 'sa', now, 'n', 0)
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
