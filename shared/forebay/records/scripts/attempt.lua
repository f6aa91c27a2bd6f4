-- Take a delivery for one attempt, if nobody else is at it. Who is killed at it is forgotten after the
-- lease, and it is due again.
--
-- KEYS  1 delivery (hash)  2 due (zset)  3 gone (zset)
-- ARGV  1 id  2 token of who tries  3 lease in ms
-- Returns { URL, content type, body, failures so far, 1 if its receiver wants no more, trace or '' },
-- or nil if there is nothing to do
local now = now_ms()
local found = redis.call('HMGET', KEYS[1], 'st', 'u', 'ct', 'b', 'n', 'un', 'tp')
if found[1] ~= 'waiting' or tonumber(found[6] or 0) > now then return nil end
redis.call('HSET', KEYS[1], 'by', ARGV[2], 'un', now + ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
local gone = redis.call('ZSCORE', KEYS[3], found[2]) and 1 or 0
return { found[2], found[3], found[4], tonumber(found[5]), gone, found[7] or '' }
