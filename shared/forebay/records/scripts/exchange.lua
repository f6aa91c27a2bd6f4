-- Put a value in the place of another, unless somebody else was faster.
--
-- KEYS  1 where (string)
-- ARGV  1 what was read, '' if there was nothing  2 what is to be there
-- Returns 1, or 0 if something else is there by now
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
