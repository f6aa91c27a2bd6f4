-- Change the shares of a model's versions, unless somebody else has since the caller looked.
--
-- KEYS  1 traffic (stream)
-- ARGV  1 entry of the last change that the caller knows, empty for none  2 most changes kept
--       3 … fields of the change, flat
-- Returns its entry, or nil if there is a later change than the caller knows
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if (last and last[1] or '') ~= ARGV[1] then return false end
return redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', unpack(ARGV, 3))
