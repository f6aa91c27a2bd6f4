-- Put what a taker holds back to where it is taken from next, and forget the taker.
--
-- KEYS  1 messages that the taker holds (hash)  2 takers by the end of their leases (zset)
--       3 the queue's first list
-- ARGV  1 the taker
-- Returns how many there were
local places = redis.call('HKEYS', KEYS[1])
table.sort(places, function(a, b)
  return tonumber(string.match(a, '^%d+')) > tonumber(string.match(b, '^%d+'))
end)
for _, place in ipairs(places) do
  redis.call('RPUSH', KEYS[3], redis.call('HGET', KEYS[1], place))
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return #places
