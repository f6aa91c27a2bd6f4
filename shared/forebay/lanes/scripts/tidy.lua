-- Sweep up after workers that are gone: leases they held are let go, so that the next worker
-- to come takes them over at once, and consumers that hold nothing are removed. A consumer with
-- pending entries is never removed: Redis would throw its entries away.
--
-- A worker counts as gone once two sweeps, at least the grace apart, found it absent: after a
-- pause of the server everybody's presence has expired at once.
--
-- KEYS  1 lane, or what went ahead on it (stream)  2 workers (zset: worker -> present until, ms)
--       3 absences (hash: worker -> first found absent, ms)
--       4 running (hash: worker -> entries it runs)  5 rates (hash: worker -> rows a second)
--       6.. the other such streams
-- ARGV  1 group  2 grace in ms  3 idle time of what is let go, in ms
-- Returns { leases let go, consumers removed }
local now = now_ms()
if redis.call('EXISTS', KEYS[1]) == 0 then return { 0, 0 } end
if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then return { 0, 0 } end
local released, removed = 0, 0

local function holds_elsewhere(name)
  for i = 6, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 and #redis.call('XINFO', 'GROUPS', KEYS[i]) > 0
      and #redis.call('XPENDING', KEYS[i], ARGV[1], '-', '+', 1, name) > 0 then
      return true
    end
  end
  return false
end

for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  local name = about['name']
  if tonumber(redis.call('ZSCORE', KEYS[2], name) or 0) >= now then
    redis.call('HDEL', KEYS[3], name)
  else
    redis.call('HSETNX', KEYS[3], name, now)
    local since = tonumber(redis.call('HGET', KEYS[3], name))
    if now - since >= tonumber(ARGV[2]) then
      if about['pending'] == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
        redis.call('HDEL', KEYS[3], name)
        redis.call('ZREM', KEYS[2], name)
        redis.call('HDEL', KEYS[5], name)
        if not holds_elsewhere(name) then redis.call('HDEL', KEYS[4], name, name .. ' why') end
        removed = removed + 1
      else
        for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, name)) do
          if row[3] < tonumber(ARGV[3]) then
            redis.call('XCLAIM', KEYS[1], ARGV[1], name, 0, row[1], 'IDLE', ARGV[3], 'JUSTID')
            released = released + 1
          end
        end
      end
    end
  end
end
return { released, removed }
