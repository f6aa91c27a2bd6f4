-- Have the replies and chunks of a prediction that is under way published to whoever asked last.
--
-- KEYS  1 prediction record (hash)
-- ARGV  1 reply channel
-- Returns { status, parts }, or nil if there is no such record
local found = redis.call('HMGET', KEYS[1], 'st', 'n')
if not found[1] then return nil end
if found[1] == 'starting' then redis.call('HSET', KEYS[1], 'rp', ARGV[1]) end
return { found[1], found[2] }
