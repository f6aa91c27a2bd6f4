-- Lease what is ready: realtime first, the rest of the count from bulk. Never blocks.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)
-- ARGV  1 group  2 worker  3 most entries
-- Returns { realtime entries, bulk entries }, each entry { id, { field, value, ... } }
local function take(key, count)
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count,
    'STREAMS', key, '>')
  if not reply or not reply[1] then return {} end
  return reply[1][2]
end
local want = tonumber(ARGV[3])
local realtime = take(KEYS[1], want)
local bulk = {}
if #realtime < want then bulk = take(KEYS[2], want - #realtime) end
return { realtime, bulk }
