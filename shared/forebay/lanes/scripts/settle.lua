-- Record how computations ended, release their leases and publish the replies, atomically.
-- The first terminal status of a prediction wins; a late, repeated or out-of-lease result is
-- dropped and counted. Stored before published: a lost message can be re-read.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 counters (hash)  6 dead letters (stream)
--       7.. for each computation: prediction record (hash), spilled outputs (string)
-- ARGV  1 group  2 most dead letters kept  3 channel that workers listen on
--       4 most bytes of dead letters kept, of which one takes a quarter at most
--       5 key prefix of the messages of settled parts, then for each computation:
--       lane, entry id, prediction id, part, attempt, status, reply message,
--       outputs if they are kept beside the record or '', reason if it becomes a dead letter or ''
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

local function message_at(lane, entry)
  local kept = redis.call('XRANGE', stream[lane], entry, entry)
  return kept[1] and kept[1][2][4]
end

-- What is a dead letter's value of a field.
local function value_of(letter, field)
  for i = 1, #letter, 2 do
    if letter[i] == field then return letter[i + 1] end
  end
end

local function bytes_of(letter)
  local bytes = 0
  for i = 1, #letter, 2 do
    if letter[i] ~= 'before' then bytes = bytes + #letter[i] + #letter[i + 1] end
  end
  return bytes
end

-- Drop the oldest dead letters until these bytes fit as well; returns how many bytes of letters
-- there ever were before. Each letter says so of itself, so what they take is a difference, and
-- there is no counter that a trim could leave wrong. Those taken out of the middle count until
-- what is older has gone.
local function make_room(bytes)
  local newest = redis.call('XREVRANGE', KEYS[6], '+', '-', 'COUNT', 1)[1]
  if not newest then return 0 end
  local before = (tonumber(value_of(newest[2], 'before')) or 0) + bytes_of(newest[2])
  local most, old = tonumber(ARGV[4])
  repeat
    old = {}
    for _, letter in ipairs(redis.call('XRANGE', KEYS[6], '-', '+', 'COUNT', 10)) do
      if before + bytes - (tonumber(value_of(letter[2], 'before')) or 0) > most then
        old[#old + 1] = letter[1]
      end
    end
    if #old > 0 then redis.call('XDEL', KEYS[6], unpack(old)) end
  until #old < 10
  return before
end

-- Make a dead letter of a part, with all that it takes to run the whole prediction again.
local function bury(record, lane, id, part, attempt, reason, entries)
  local about = redis.call('HMGET', record, 'k' .. part, 'h' .. part, 'in')
  local letter = { 'c', id .. '.' .. part, 'reason', reason, 'attempts', attempt,
    'strikes', about[1] or '0', 'lane', lane, 'at', string.format('%.0f', now),
    'history', about[2] or '' }
  local number, rows, rest, own, gone = 0, {}, {}, nil, false
  for other, other_rows in string.gmatch(entries, '(%d+%-%d+):(%d+)') do
    local message
    if redis.call('HEXISTS', record, 'o' .. number) == 1 then
      message = redis.call('HGET', ARGV[5] .. id, number)
    else
      message = message_at(lane, other)
    end
    if not message then
      gone = true
    else
      rows[#rows + 1] = other_rows .. ':' .. #message
      if number == tonumber(part) then own = message else rest[#rest + 1] = message end
    end
    number = number + 1
  end
  local whole = { 'rows', table.concat(rows, ' '), 'rest', table.concat(rest),
    'in', about[3] or '' }
  local most = tonumber(ARGV[4]) / 4
  if own and bytes_of(letter) + #own <= most then
    letter[#letter + 1] = 'm'
    letter[#letter + 1] = own
    if not gone and bytes_of(letter) + bytes_of(whole) > most then whole = { 'lacks', 'large' } end
  elseif own then
    whole = { 'lacks', 'large' }
  end
  if gone then whole = { 'lacks', 'gone' } end
  for _, text in ipairs(whole) do letter[#letter + 1] = text end
  letter[#letter + 1] = 'before'
  letter[#letter + 1] = string.format('%.0f', make_room(bytes_of(letter)))
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[2], '*', unpack(letter))
  count('dead')
end

local at, key = 6, 7
while key <= #KEYS do
  local record, spilled_key = KEYS[key], KEYS[key + 1]
  local lane, entry, id, part = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local attempt, status, message = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local spilled, reason = ARGV[at + 7], ARGV[at + 8]
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
      bury(record, lane, id, part, attempt, reason, found[6])
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
      if string.find(found[6], ' ', 1, true) then redis.call('PEXPIRE', ARGV[5] .. id, 0) end
      ended[#ended + 1] = id
      count(status)
    else
      redis.call('HSET', record, 'o' .. part, message, 'left', left)
      -- Should another part become a dead letter, this one is to be run again with it. What
      -- finish ends is forgotten like outputs beside the record.
      local kept = message_at(lane, entry)
      if kept then
        redis.call('HSET', ARGV[5] .. id, part, kept)
        redis.call('PEXPIRE', ARGV[5] .. id, math.max(found[7] - now, 0) + SWEPT_MS)
      end
    end
    -- Outputs beside the record outlive it: it ends by its deadline, or the sweep after that.
    if spilled ~= '' then
      redis.call('SET', spilled_key, spilled, 'PX',
        math.max(found[7] - now, 0) + found[4] + SWEPT_MS)
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
