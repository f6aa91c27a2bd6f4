-- Put an API key in the place of what was read, unless somebody else was faster.
--
-- KEYS  1 API keys (hash)
-- ARGV  1 its id  2 what was read, '' if there was nothing  3 what is to be there
-- Returns 1, or 0 if something else is there by now
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
