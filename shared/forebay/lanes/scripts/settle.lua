-- Record how computations ended, release their leases and publish the replies, atomically.
-- The first terminal status of a prediction wins; a late, repeated or out-of-lease result is
-- dropped and counted. Stored before published: a lost message can be re-read.
--
-- Those that joined the prediction end with it, in the same way. It may have ended itself, by
-- cancel or deadline, and be run for them only.
--
-- What waits behind a lane's ready stream comes forward as that empties.
--
-- What is to be kept in the response cache is written with the result that it is of, and so is what
-- is to be told of it to the outbox.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 counters (hash)  6 dead letters (stream)  7 leaders (hash: identity -> prediction)
--       8 outbox (stream; a channel too)
--       9.. for each computation: prediction record (hash), spilled outputs (string)
-- ARGV  1 group  2 most dead letters kept  3 channel that workers listen on
--       4 most bytes of dead letters kept, of which one takes a quarter at most
--       5 key prefix of the messages of settled parts  6 key prefix of prediction records
--       7 key prefix of lists of those that joined  8 rows that are ready for one worker: behind
--       fewer nobody waits, then for each computation:
--       lane, entry id, prediction id, part, attempt, status, reply message,
--       outputs if they are kept beside the record or '', reason if it becomes a dead letter or '';
--       then, if anything is to be kept in the cache: the cache (hash), its keys by age (zset),
--       ms that an entry lives, most bytes of all, then for each entry:
--       which of the computations it is of, key, entry
-- Returns for each  2 the prediction is now terminal  1 part recorded  0 too late, dropped
--                   3 runs again, for those that joined with a later deadline
--                   -1 the lease is another's, dropped  -2 no such record any more, dropped
local SWEPT_MS = 3600000
local now = now_ms()
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local released = {}
local rows_done = { realtime = 0, bulk = 0 }
local unlisted = { realtime = 0, bulk = 0 }
local ended, outcomes, counted = {}, {}, {}
local dropped = {}

-- Its lease ends, and it comes off where it is.
local function release(lane, entry)
  local place = stream_of(stream[lane], entry)
  released[place] = released[place] or {}
  table.insert(released[place], entry)
end

local function count(what) counted[what] = (counted[what] or 0) + 1 end

-- Rows of a part, as they were counted when it was enqueued.
local function rows_of(entries, part)
  local number = 0
  for rows in string.gmatch(entries, ':(%d+)') do
    if number == part then return tonumber(rows) end
    number = number + 1
  end
end

local function parts_of(entries)
  local _, parts = string.gsub(entries, ':', ':')
  return parts
end

-- Of an entry that waits, `record` tells on whose list it is.
local function message_at(lane, entry, record)
  local caller = is_waiting(entry) and redis.call('HGET', record, 'by')
  local kept = redis.call('XRANGE', stream_of(stream[lane], entry, caller or ''), entry, entry)
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
  local about = redis.call('HMGET', record, 'k' .. part, 'h' .. part, 'in', 'hi', 'no')
  local letter = { 'c', id .. '.' .. part, 'reason', reason, 'attempts', attempt,
    'strikes', about[1] or '0', 'lane', lane, 'at', string.format('%.0f', now),
    'history', about[2] or '' }
  local also = redis.call('LRANGE', ARGV[7] .. id, 0, -1)
  if #also > 0 then
    letter[#letter + 1] = 'joined'
    letter[#letter + 1] = table.concat(also, ' ')
  end
  local number, rows, rest, own, gone = 0, {}, {}, nil, false
  for other, other_rows in string.gmatch(entries, '(%d+%-%d+):(%d+)') do
    local message
    if redis.call('HEXISTS', record, 'o' .. number) == 1 then
      message = redis.call('HGET', ARGV[5] .. id, number)
    else
      message = message_at(lane, other, record)
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
  if about[4] then
    whole[#whole + 1] = 'hi'
    whole[#whole + 1] = about[4]
  end
  if about[5] then
    whole[#whole + 1] = 'no'
    whole[#whole + 1] = about[5]
  end
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

-- What else is to be written goes with it: one command is cheaper than two, here and in the file.
local function end_one(record, id, status, retain, notice, ...)
  redis.call('HSET', record, 'st', status, 'ft', now, ...)
  redis.call('PEXPIRE', record, retain)
  ended[#ended + 1] = id
  count(status)
  if notice then
    if status == 'succeeded' then tell_of(KEYS[8], id, notice, 'output') end
    tell_of(KEYS[8], id, notice, 'completed')
  end
end

-- A reply says which prediction it is to before anything else, and all ids of a model are of a length.
local function addressed(message, from, to)
  local first, last = string.find(message, from, 1, true)
  return string.sub(message, 1, first - 1) .. to .. string.sub(message, last + 1)
end

-- End those that joined. The replies stay in the leader's record, where theirs leads to.
local function end_joined(leader, status, messages)
  for _, id in ipairs(redis.call('LRANGE', ARGV[7] .. leader, 0, -1)) do
    local record = ARGV[6] .. id
    local found = redis.call('HMGET', record, 'st', 'rp', 'tt', 'no')
    if found[1] == 'starting' then
      if found[2] ~= '' then
        for _, message in ipairs(messages) do
          publish_later(found[2], addressed(message, leader, id))
        end
      end
      end_one(record, id, status, found[3], found[4])
    end
  end
  redis.call('PEXPIRE', ARGV[7] .. leader, 0)
end

-- The latest deadline of those that joined and still wait.
local function latest_deadline(leader)
  local latest = 0
  for _, id in ipairs(redis.call('LRANGE', ARGV[7] .. leader, 0, -1)) do
    local found = redis.call('HMGET', ARGV[6] .. id, 'st', 'dl')
    if found[1] == 'starting' then latest = math.max(latest, tonumber(found[2])) end
  end
  return latest
end

-- Put a part back on its lane, with more time.
local function run_again(record, lane, entry, id, part, entries, deadline)
  local message = message_at(lane, entry, record)
  if not message then return false end
  local new = redis.call('XADD', stream[lane], '*', 'c', id .. '.' .. part, 'm', message,
    'd', string.format('%.0f', deadline))
  exchange_entry(record, entries, entry, new)
  redis.call('HDEL', record, 'a' .. part)
  return true
end

-- What an entry takes in the two keys beyond its bytes: 110 to 155 with Valkey 9.1, by its size, and
-- more where hash tables are older.
local ENTRY_BYTES = 190
-- Entries too old to answer that are dropped in one call: more would hold it up.
local MOST_TOO_OLD = 64

-- Keep outputs of what was recorded just now, and make room: the oldest go first.
local function keep(cache, ages, ttl, most, from)
  -- One without the other: the server has evicted it to make room of its own.
  if redis.call('EXISTS', cache, ages) == 1 then redis.call('UNLINK', cache, ages) end
  local bytes = tonumber(redis.call('HGET', cache, 'bytes') or 0)
  local kept, evicted = 0, 0
  local function drop(entry_key)
    bytes = bytes - redis.call('HSTRLEN', cache, entry_key) - ENTRY_BYTES
    redis.call('HDEL', cache, entry_key)
  end
  for i = from, #ARGV, 3 do
    if outcomes[tonumber(ARGV[i])] > 0 then
      local entry_key, entry = ARGV[i + 1], ARGV[i + 2]
      if redis.call('HEXISTS', cache, entry_key) == 1 then drop(entry_key) end
      redis.call('HSET', cache, entry_key, entry)
      redis.call('ZADD', ages, now, entry_key)
      bytes = bytes + #entry + ENTRY_BYTES
      kept = kept + 1
    end
  end
  if kept == 0 then return end
  local old = redis.call('ZRANGEBYSCORE', ages, '-inf', now - ttl, 'LIMIT', 0, MOST_TOO_OLD)
  for _, entry_key in ipairs(old) do drop(entry_key) end
  if #old > 0 then redis.call('ZREM', ages, unpack(old)) end
  while bytes > most do
    local oldest = redis.call('ZPOPMIN', ages)[1]
    if not oldest then break end
    drop(oldest)
    evicted = evicted + 1
  end
  redis.call('HSET', cache, 'bytes', string.format('%.0f', bytes))
  redis.call('PEXPIRE', cache, ttl)
  redis.call('PEXPIRE', ages, ttl)
  counted.cache_kept = kept
  if evicted > 0 then counted.cache_evicted = evicted end
end

local at, key = 9, 9
while key <= #KEYS do
  local record, spilled_key = KEYS[key], KEYS[key + 1]
  local lane, entry, id, part = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local attempt, status, message = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local spilled, reason = ARGV[at + 7], ARGV[at + 8]
  key, at = key + 2, at + 9
  local found = redis.call('HMGET', record, 'st', 'left', 'rp', 'tt', 'a' .. part, 'en',
    'dl', 'o' .. part, 'go', 'fo', 'id', 'no')
  local was = found[1]
  local joined = found[10]
  local outcome
  if not was then
    -- Before the attempt is looked at: that was in the record too, and an entry nobody may settle
    -- would be reclaimed for ever.
    outcome = -2
    release(lane, entry)
    count('late')
  elseif (found[5] or '1') ~= attempt or not string.find(found[6], entry .. ':', 1, true) then
    -- Taken over by another worker, or put back on the lane under another entry.
    outcome = -1
    count('stale')
  elseif was ~= 'starting' and not found[9] then
    outcome = 0
    release(lane, entry)
    count('late')
  elseif found[8] then
    outcome = 0
    release(lane, entry)
    count('late')
  elseif status == 'expired' and joined and latest_deadline(id) > now
    and run_again(record, lane, entry, id, part, found[6], latest_deadline(id)) then
    outcome = 3
    release(lane, entry)
  else
    outcome = 1
    if reason ~= '' then
      bury(record, lane, id, part, attempt, reason, found[6])
    end
    release(lane, entry)
    rows_done[lane] = rows_done[lane] + rows_of(found[6], tonumber(part))
    if was == 'starting' then publish_later(found[3], message) end
    local left = tonumber(found[2]) - 1
    local terminal = status ~= 'succeeded' or left == 0
    if terminal then
      outcome = 2
      if left > 0 then
        -- One failed part ends the prediction: take its other parts off the lane.
        local number = 0
        for other, others_rows in string.gmatch(found[6], '(%d+%-%d+):(%d+)') do
          if number ~= tonumber(part) and redis.call('HEXISTS', record, 'o' .. number) == 0 then
            if is_waiting(other) then
              take_off_list(stream[lane], redis.call('HGET', record, 'by') or '', other)
              unlisted[lane] = unlisted[lane] + tonumber(others_rows)
            else
              release(lane, other)
              dropped[#dropped + 1] = lane .. ':' .. other
            end
            rows_done[lane] = rows_done[lane] + tonumber(others_rows)
          end
          number = number + 1
        end
      end
      if was == 'starting' then
        end_one(record, id, status, found[4], found[12], 'o' .. part, message, 'left', left)
      else
        redis.call('HSET', record, 'o' .. part, message, 'left', left)
        redis.call('HDEL', record, 'go')
        redis.call('PEXPIRE', record, found[4])
      end
      if joined then
        local messages = { message }
        if status == 'succeeded' then
          for number = 0, parts_of(found[6]) - 1 do
            messages[number + 1] = redis.call('HGET', record, 'o' .. number)
          end
        end
        end_joined(id, status, messages)
      end
      if found[11] and redis.call('HGET', KEYS[7], found[11]) == id then
        redis.call('HDEL', KEYS[7], found[11])
      end
      if string.find(found[6], ' ', 1, true) then redis.call('PEXPIRE', ARGV[5] .. id, 0) end
    else
      redis.call('HSET', record, 'o' .. part, message, 'left', left)
      -- Should another part become a dead letter, this one is to be run again with it. What
      -- finish ends is forgotten like outputs beside the record.
      local kept = message_at(lane, entry, record)
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

if at <= #ARGV then
  keep(ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), at + 4)
end
if #ended > 0 then redis.call('ZREM', KEYS[3], unpack(ended)) end
for place, entries in pairs(released) do
  redis.call('XACK', place, ARGV[1], unpack(entries))
  redis.call('XDEL', place, unpack(entries))
end
for lane in pairs(stream) do
  if unlisted[lane] > 0 then
    redis.call('HINCRBY', KEYS[4], lane .. '_waiting', -unlisted[lane])
  end
  if rows_done[lane] > 0 then
    local left = redis.call('HINCRBY', KEYS[4], lane, -rows_done[lane])
    if left + rows_done[lane] > math.max(tonumber(ARGV[8]), FEWEST_READY) then
      local told = redis.call('HMGET', KEYS[4], lane, lane .. '_waiting', 'ready')
      refill(KEYS[4], lane, stream[lane], ARGV[1], ARGV[6], told)
    end
  end
end
for what, n in pairs(counted) do redis.call('HINCRBY', KEYS[5], what, n) end
publish_all()
wake_relays(KEYS[8])
if #dropped > 0 then redis.call('PUBLISH', ARGV[3], table.concat(dropped, ' ')) end
return outcomes
