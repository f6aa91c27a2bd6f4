-- Lease what is ready on a lane, up to about so many rows and bytes; at least one entry. Never
-- blocks. Entries don't tell how many rows they have: the lane's average tells how many to take. Nor
-- can a read be bounded in bytes: it goes by twice as many entries each time, while they are small.
--
-- What went ahead comes first, whatever is wanted. What waits behind the ready stream comes forward:
-- as much as is wanted.
--
-- KEYS  1 lane (stream)  2 demand (hash)  3 what went ahead on the lane (stream)
-- ARGV  1 group  2 worker  3 rows wanted, 0 if only what went ahead  4 name of the lane  5 bytes after which no more is read
--       6 key prefix of prediction records
-- Returns entries { id, { field, value, ... } }
local most, size, taken = tonumber(ARGV[5]), 0, {}

-- Returns how many entries were read.
local function read(stream, count)
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count,
    'STREAMS', stream, '>')
  local got = reply and reply[1] and reply[1][2] or {}
  for _, entry in ipairs(got) do
    taken[#taken + 1] = entry
    size = size + #(entry[2][4] or '')
  end
  return #got
end

-- Entries that one call reads of what went ahead, none of which is large.
local MOST_AHEAD = 64
if redis.call('XLEN', KEYS[3]) > 0 then read(KEYS[3], MOST_AHEAD) end
if ARGV[3] == '0' then return taken end
local told = redis.call('HMGET', KEYS[2], ARGV[4], ARGV[4] .. '_waiting', 'ready')
local waiting = tonumber(told[2] or 0)
waiting = waiting - refill(KEYS[2], ARGV[4], KEYS[1], ARGV[1], ARGV[6], told, tonumber(ARGV[3]))
local entries = redis.call('XLEN', KEYS[1])
if entries == 0 then return taken end
local rows = tonumber(told[1] or entries) - waiting
local left = math.max(math.floor(tonumber(ARGV[3]) * entries / math.max(rows, 1)), 1)
local step = 1
while left > 0 and size < most do
  local count = math.min(step, left)
  if read(KEYS[1], count) < count then break end
  left, step = left - count, step * 2
end
return taken
