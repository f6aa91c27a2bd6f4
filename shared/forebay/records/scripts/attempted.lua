-- Record what came of an attempt. Who has lost the delivery to another is refused.
--
-- KEYS  1 delivery (hash)  2 due (zset)  3 gone (zset)  4 waits (hash)
-- ARGV  1 id  2 token of who tried  3 state from now on  4 ms until it is tried again
--       5 ms that it is kept where that is not  6 the attempt, a line, or ''  7 most attempts kept
--       8 most receivers kept that want no more
-- Returns 1, or 0 if it was another's
local now = now_ms()
local found = redis.call('HMGET', KEYS[1], 'by', 'l', 'u', 'o')
if found[1] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'by', 'un')
redis.call('HSET', KEYS[1], 'st', ARGV[3])
if ARGV[6] ~= '' then
  local lines = { ARGV[6] }
  for line in string.gmatch(found[2] or '', '[^\n]+') do table.insert(lines, #lines, line) end
  while #lines > tonumber(ARGV[7]) do table.remove(lines, 1) end
  redis.call('HSET', KEYS[1], 'l', table.concat(lines, '\n'))
  if ARGV[3] ~= 'delivered' then redis.call('HINCRBY', KEYS[1], 'n', 1) end
end
if ARGV[3] == 'waiting' then
  redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
  wait_more(KEYS[4], found[4], -1)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
if ARGV[3] == 'disabled' and ARGV[6] ~= '' then
  redis.call('ZADD', KEYS[3], now, found[3])
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[8])
end
return 1
