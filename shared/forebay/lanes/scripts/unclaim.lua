-- Give a name back, unless it stands for something else by now.
--
-- KEYS  1 claim (string)
-- ARGV  1 what it was claimed as
-- Returns 1 if it was given back, else 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], 0)
return 1
