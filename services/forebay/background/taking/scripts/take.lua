-- Take messages from an app's queues, and those whose time has come, into their taker's own place:
-- from there they are taken again by others if the taker is lost, so none is lost with it.
--
-- KEYS  1 messages that the taker holds (hash)  2 takers by the end of their leases (zset)
--       3 messages whose time has not come (zset)  4 how many were ever taken (string)
--       5.. the queues' lists, of each queue in the order in which they are emptied
-- ARGV  1 the taker  2 its lease in ms  3 bytes after which no more is taken  4 most whose time has
--       come; then for each queue: its name, how many lists it has, most from them
-- Returns 1 if the taker was known, or 0: what it held before is others'; then for each message its
-- place, which is `NUMBER QUEUE`, and the message
local now = now_ms()
local found = { redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0 }
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])

local bytes, most_bytes = 0, tonumber(ARGV[3])
local function hold(place, message)
  redis.call('HSET', KEYS[1], place, message)
  found[#found + 1] = place
  found[#found + 1] = message
  bytes = bytes + #message
end

for _, waiting in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  if bytes >= most_bytes then break end
  redis.call('ZREM', KEYS[3], waiting)
  local cut = string.find(waiting, '\n', 1, true)
  hold(string.sub(waiting, 1, cut - 1), string.sub(waiting, cut + 1))
end

local list = 5
for at = 5, #ARGV, 3 do
  local lists, most = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  for k = list, list + lists - 1 do
    while most > 0 and bytes < most_bytes do
      local message = redis.call('RPOP', KEYS[k])
      if not message then break end
      hold(redis.call('INCR', KEYS[4]) .. ' ' .. ARGV[at], message)
      most = most - 1
    end
  end
  list = list + lists
end
return found
