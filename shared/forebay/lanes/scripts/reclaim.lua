-- Take over leases that lapsed, or whose worker is gone, and give each a new attempt number, so
-- that whatever the old owner still says is refused.
--
-- KEYS  1 lane (stream)  2 workers (zset: worker -> present until, ms)
-- ARGV  1 group  2 worker  3 lease in ms  4 most entries  5 key prefix of prediction records
-- Returns entries { id, attempt, { field, value, ... } }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = tonumber(ARGV[4])
local found, seen = {}, {}

local function add(pending)
  for _, row in ipairs(pending) do
    if #found < most and not seen[row[1]] then
      seen[row[1]] = true
      found[#found + 1] = { row[1], row[4] }
    end
  end
end

add(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', most))
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  if #found < most and about['pending'] > 0 and about['name'] ~= ARGV[2] then
    local until_ms = tonumber(redis.call('ZSCORE', KEYS[2], about['name']) or 0)
    if until_ms < now then
      add(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', most - #found, about['name']))
    end
  end
end
local taken = {}
for _, lease in ipairs(found) do
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, lease[1])
  if claimed[1] and claimed[1][2] then
    local fields = claimed[1][2]
    local attempt = lease[2] + 1
    local id, part = string.match(fields[2], '^(.*)%.(%d+)$')
    local record = ARGV[5] .. id
    if redis.call('EXISTS', record) == 1 then
      redis.call('HSET', record, 'a' .. part, attempt)
    end
    taken[#taken + 1] = { lease[1], attempt, fields }
  end
end
return taken
