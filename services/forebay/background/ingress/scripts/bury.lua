-- Put aside a message that can't be made anything of.
--
-- KEYS  1 messages that its taker holds (hash)  2 dead letters, newest first (list)
-- ARGV  1 its place, or '' if it is held elsewhere  2 the letter  3 most letters
-- Returns 1, or 0 if it is not the taker's any more
if ARGV[1] ~= '' and redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, ARGV[3] - 1)
return 1
