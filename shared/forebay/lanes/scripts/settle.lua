-- Record how computations ended, release their leases and publish the replies, atomically.
-- The first terminal status of a prediction wins; a late, repeated or out-of-lease result is
-- dropped and counted. Stored before published: a lost message can be re-read.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 counters (hash)  6 dead letters (stream)
--       7.. for each computation: prediction record (hash), spilled outputs (string)
-- ARGV  1 group  2 most dead letters kept  3 channel that workers listen on, then for each
--       computation:
--       lane, entry id, prediction id, part, attempt, status, reply message,
--       1 if its outputs are spilled, reason if it becomes a dead letter or ''
-- Returns for each  2 the prediction is now terminal  1 part recorded  0 too late, dropped
--                   -1 the lease is another's, dropped  -2 no such record any more, dropped
local SWEPT_MS = 3600000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local released = { realtime = {}, bulk = {} }
local rows_done = { realtime = 0, bulk = 0 }
local ended, outcomes, counted = {}, {}, {}
local replies, channels, dropped = {}, {}, {}

local function count(what) counted[what] = (counted[what] or 0) + 1 end

local function publish_later(channel, message)
  if channel == '' then return end
  if not replies[channel] then
    replies[channel] = {}
    channels[#channels + 1] = channel
  end
  local list = replies[channel]
  list[#list + 1] = message
end

-- Rows of a part, as they were counted when it was enqueued.
local function rows_of(entries, part)
  local number = 0
  for rows in string.gmatch(entries, ':(%d+)') do
    if number == part then return tonumber(rows) end
    number = number + 1
  end
end

-- A msgpack array is its header followed by its items, which are messages already.
local function msgpack_array(items)
  local n = #items
  return string.char(0xdd, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. table.concat(items)
end

local at, key = 4, 7
while key <= #KEYS do
  local record, spilled_key = KEYS[key], KEYS[key + 1]
  local lane, entry, id, part = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local attempt, status, message = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local spilled, reason = ARGV[at + 7] == '1', ARGV[at + 8]
  key, at = key + 2, at + 9
  local found = redis.call('HMGET', record, 'st', 'left', 'rp', 'tt', 'a' .. part, 'en',
    'dl', 'o' .. part)
  local was = found[1]
  local mine = released[lane]
  local outcome
  if not was then
    -- Before the attempt is looked at: that was in the record too, and an entry nobody may settle
    -- would be reclaimed for ever.
    outcome = -2
    mine[#mine + 1] = entry
    count('late')
  elseif (found[5] or '1') ~= attempt then
    outcome = -1
    count('stale')
  elseif was ~= 'starting' then
    outcome = 0
    mine[#mine + 1] = entry
    count('late')
  elseif found[8] then
    outcome = 0
    mine[#mine + 1] = entry
    count('late')
  else
    outcome = 1
    if reason ~= '' then
      local kept = redis.call('XRANGE', stream[lane], entry, entry)
      local fields = { 'c', id .. '.' .. part, 'reason', reason, 'attempts', attempt,
        'lane', lane, 'at', now,
        'history', redis.call('HGET', record, 'h' .. part) or '' }
      if kept[1] then
        fields[#fields + 1] = 'm'
        fields[#fields + 1] = kept[1][2][4]
      end
      redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[2], '*', unpack(fields))
      count('dead')
    end
    mine[#mine + 1] = entry
    rows_done[lane] = rows_done[lane] + rows_of(found[6], tonumber(part))
    publish_later(found[3], message)
    local left = tonumber(found[2]) - 1
    local terminal = status ~= 'succeeded' or left == 0
    if terminal then
      outcome = 2
      if left > 0 then
        -- One failed part ends the prediction: take its other parts off the lane.
        local number = 0
        for other, others_rows in string.gmatch(found[6], '(%d+%-%d+):(%d+)') do
          if number ~= tonumber(part) and redis.call('HEXISTS', record, 'o' .. number) == 0 then
            mine[#mine + 1] = other
            dropped[#dropped + 1] = lane .. ':' .. other
            rows_done[lane] = rows_done[lane] + tonumber(others_rows)
          end
          number = number + 1
        end
      end
      redis.call('HSET', record, 'o' .. part, message, 'st', status, 'left', left, 'ft', now)
      redis.call('PEXPIRE', record, found[4])
      ended[#ended + 1] = id
      count(status)
    else
      redis.call('HSET', record, 'o' .. part, message, 'left', left)
    end
    -- Outputs beside the record outlive it: it ends by its deadline, or the sweep after that.
    if spilled then
      redis.call('PEXPIRE', spilled_key, math.max(found[7] - now, 0) + found[4] + SWEPT_MS)
    end
  end
  outcomes[#outcomes + 1] = outcome
end

if #ended > 0 then redis.call('ZREM', KEYS[3], unpack(ended)) end
for lane, entries in pairs(released) do
  if #entries > 0 then
    redis.call('XACK', stream[lane], ARGV[1], unpack(entries))
    redis.call('XDEL', stream[lane], unpack(entries))
  end
  if rows_done[lane] > 0 then redis.call('HINCRBY', KEYS[4], lane, -rows_done[lane]) end
end
for what, n in pairs(counted) do redis.call('HINCRBY', KEYS[5], what, n) end
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', channel, msgpack_array(replies[channel]))
end
if #dropped > 0 then redis.call('PUBLISH', ARGV[3], table.concat(dropped, ' ')) end
return outcomes
