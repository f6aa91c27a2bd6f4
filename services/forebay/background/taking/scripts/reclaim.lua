-- Take over what takers hold whose leases have ended.
--
-- KEYS  1 takers by the end of their leases (zset)  2 messages that the one who asks holds (hash)
-- ARGV  1 who asks  2 key prefix of what takers hold  3 most messages
-- Returns for each message its place and the message
local now = now_ms()
local found, most = {}, tonumber(ARGV[3])
for _, taker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  if taker ~= ARGV[1] then
    local held = ARGV[2] .. taker
    local places = redis.call('HKEYS', held)
    table.sort(places, function(a, b)
      return tonumber(string.match(a, '^%d+')) < tonumber(string.match(b, '^%d+'))
    end)
    for _, place in ipairs(places) do
      if #found >= 2 * most then return found end
      local message = redis.call('HGET', held, place)
      redis.call('HDEL', held, place)
      redis.call('HSET', KEYS[2], place, message)
      found[#found + 1] = place
      found[#found + 1] = message
    end
    redis.call('ZREM', KEYS[1], taker)
  end
end
return found
