-- Lease what is ready on a lane, up to about so many rows; at least one entry. Never blocks.
-- Entries don't tell how many rows they have: the lane's average tells how many to take.
--
-- KEYS  1 lane (stream)  2 demand (hash)
-- ARGV  1 group  2 worker  3 rows wanted  4 name of the lane
-- Returns entries { id, { field, value, ... } }
local entries = redis.call('XLEN', KEYS[1])
if entries == 0 then return {} end
local rows = tonumber(redis.call('HGET', KEYS[2], ARGV[4]) or entries)
local count = math.max(math.floor(tonumber(ARGV[3]) * entries / math.max(rows, 1)), 1)
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count,
  'STREAMS', KEYS[1], '>')
if not reply or not reply[1] then return {} end
return reply[1][2]
