-- Renew the lease of a batch, and learn how it stands; or give it back, by a lease of 0.
--
-- KEYS  1 batch (hash)  2 open batches (zset)
-- ARGV  1 its id  2 mark  3 lease in ms
-- Returns its status and the server's Unix time in ms; nothing if who has the mark holds it no longer
if redis.call('HGET', KEYS[1], 'by') ~= ARGV[2] then return false end
local now = now_ms()
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
end
return { redis.call('HGET', KEYS[1], 'st'), now }
