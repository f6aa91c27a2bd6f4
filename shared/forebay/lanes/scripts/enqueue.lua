-- Record predictions and add their computations to a lane, all or nothing for each prediction.
-- Idempotent by id: a retried call finds the record and adds nothing, but what is still to come is
-- published to whoever asked as well. A replay enqueues one prediction and deletes the dead letters
-- that it comes from: both, or neither.
--
-- A prediction that asks for what another has under way joins it: it gets a record and no entries.
-- If somebody waits for it and what is under way still waits in bulk, that moves to realtime.
--
-- A part goes to the lane's ready stream where nobody waits and there is room; else it waits on its
-- caller's list, or goes ahead, see waiting.lua. Of what went ahead the workers are told: one that has
-- no room does not read by itself.
--
-- A prediction without parts was answered by the response cache; its record is made as it ends.
--
-- What is kept with its input has an id that its client knows: it is listed. What is to be told of a
-- prediction goes to the outbox: that it starts, and, where the cache has answered it, its end. While
-- nobody takes anything out of that, no more is accepted of which somebody is to be told.
--
-- Where no worker is present its deadline is later by what one may take to start, and who starts
-- workers is told, if anybody does.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 dead letters (stream)  6 leaders (hash: identity -> prediction)  7 counters (hash)
--       8 predictions that have an id (stream)  9 outbox (stream; a channel too)
--       10.. one prediction record (hash) each
-- ARGV  1 most rows in realtime  2 most rows in bulk  3 1 if realtime takes more than that as long
--       as it is worked off before the deadline  4 id of the dead prediction that is replayed, or
--       ''  5 its dead letters, as 'ENTRY ...'  6 group  7 key prefix of prediction records
--       8 key prefix of lists of those that joined  9 most that join one  10 channel on which to say
--       that no worker is present, or ''  11 events in the outbox from which on no more is accepted
--       of which somebody is to be told  12 channel that workers listen on
--       13 how many predictions the cache has answered, in part or whole; then for each of these:
--       id, what it has answered, which is the reply where there are no parts; then how many have
--       a notice; then for each of these: id, notice; then for each prediction: id, lane, created
--       (Unix ms), deadline in ms from then, by how many ms it is later if no worker is present,
--       reply channel or '', retention in ms, input or '', identity or '', until when somebody
--       surely reads it (Unix ms) or '' if it is to end without a reader as well, no later than when
--       it is to end (Unix ms) or '' if its first chunk may put its deadline off, caller or '',
--       number of parts, then for each part: rows, cost, message
-- Returns for each prediction  1 enqueued  3 joined  0 already known  2 a dead letter is gone
--                              4 refused, the outbox is full
--                              less: refused, the lane is full for so many ms; -1 if nobody can tell
local bound = { realtime = tonumber(ARGV[1]), bulk = tonumber(ARGV[2]) }
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local told = redis.call('HMGET', KEYS[4], 'realtime', 'bulk', 'realtime_in', 'bulk_in', 'rate',
  'present', 'realtime_waiting', 'bulk_waiting', 'ready')
local demand = { realtime = tonumber(told[1] or 0), bulk = tonumber(told[2] or 0) }
local entered = { realtime = tonumber(told[3] or 0), bulk = tonumber(told[4] or 0) }
local rate = tonumber(told[5] or 0)
local present = tonumber(told[6] or 0)
local waiting = { realtime = tonumber(told[7] or 0), bulk = tonumber(told[8] or 0) }
local ready = ready_most(told[9])
local added = { realtime = 0, bulk = 0 }
-- Of those, what went to the ready stream; and how much more of that there is room for, once looked.
local forward = { realtime = 0, bulk = 0 }
local looked, listed = {}, { realtime = 0, bulk = 0 }
local ahead = {}

-- Whether the next part of a lane goes to its ready stream. While few rows are on the lane, leased or
-- not, there is room for sure.
local function goes_forward(lane)
  if waiting[lane] + listed[lane] <= 0 and demand[lane] + forward[lane] < ready then return true end
  if not looked[lane] then
    if waiting[lane] > 0 then
      waiting[lane] = waiting[lane] - refill(KEYS[4], lane, stream[lane], ARGV[6], ARGV[7],
        { demand[lane], waiting[lane], ready })
    end
    looked[lane] = ready + forward[lane]
      - ready_rows(stream[lane], ARGV[6], demand[lane] - waiting[lane] + forward[lane])
  end
  return waiting[lane] + listed[lane] <= 0 and forward[lane] < looked[lane]
end

-- Put a part on its lane; returns its entry.
local function put(lane, caller, computation, message, deadline, cost, rows)
  rows = tonumber(rows)
  local place, id = stream[lane], '*'
  if goes_forward(lane) then
    forward[lane] = forward[lane] + rows
  elseif waiting[lane] > 0 and goes_ahead(stream[lane], caller, cost, ready) then
    ahead[lane] = true
    place, id = stream[lane] .. AHEAD, '1-*'
  else
    listed[lane] = listed[lane] + rows
    return put_on_list(stream[lane], caller, computation, message, deadline, cost, rows)
  end
  if not deadline then return redis.call('XADD', place, id, 'c', computation, 'm', message) end
  return redis.call('XADD', place, id, 'c', computation, 'm', message,
    'd', string.format('%.0f', deadline))
end

local function room(lane, deadline_ms)
  local most = bound[lane]
  if lane == 'realtime' and ARGV[3] == '1' then
    most = math.max(most, rate * deadline_ms / 1000)
  end
  return most - demand[lane] - added[lane]
end

-- Realtime goes first, so bulk waits for both.
local function refused(lane, excess)
  if rate <= 0 then return -1 end
  if lane == 'bulk' then excess = excess + demand.realtime end
  return -math.max(math.ceil(excess / rate * 1000), 1)
end

local letters = {}
for letter in string.gmatch(ARGV[5], '%S+') do letters[#letters + 1] = letter end

local function letter_gone()
  for _, letter in ipairs(letters) do
    if #redis.call('XRANGE', KEYS[5], letter, letter) == 0 then return true end
  end
  return false
end

-- Whether these are all there, and no worker has been given any of them yet.
local function all_wait(lane, entries, caller)
  for entry in string.gmatch(entries, '(%d+%-%d+):%d+') do
    local place = stream_of(stream[lane], entry, caller)
    if redis.call('EXISTS', place) == 0 then return false end
    if #redis.call('XRANGE', place, entry, entry) == 0 then return false end
  end
  if redis.call('EXISTS', stream[lane]) == 0 then return true end
  if #redis.call('XINFO', 'GROUPS', stream[lane]) == 0 then return true end
  for entry in string.gmatch(entries, '(%d+%-%d+):%d+') do
    local place = stream_of(stream[lane], entry, caller)
    if not is_waiting(entry) and #redis.call('XPENDING', place, ARGV[6], entry, entry, 1) > 0 then
      return false
    end
  end
  return true
end

-- Gateways that hear of one prediction at once. The first of more finds out by looking at its record.
local MOST_CHANNELS = 8

-- Whether it is there already; if it is under way, its replies go to this channel as well.
local function known(record, reply)
  local found = redis.call('HMGET', record, 'st', 'rp')
  if found[1] == 'starting' and reply ~= '' then
    local channels = {}
    for channel in string.gmatch(found[2], '%S+') do
      if channel ~= reply then channels[#channels + 1] = channel end
    end
    channels[#channels + 1] = reply
    if #channels > MOST_CHANNELS then table.remove(channels, 1) end
    redis.call('HSET', record, 'rp', table.concat(channels, ' '))
  end
  return found[1]
end

-- Move what waits in bulk to realtime, where it may wait until the later deadline.
local function promote(record, entries, deadline, from, to)
  local moved, rows_moved, off = {}, 0, 0
  for entry, rows in string.gmatch(entries, '(%d+%-%d+):(%d+)') do
    local place = stream_of(stream.bulk, entry, from)
    local fields = redis.call('XRANGE', place, entry, entry)[1][2]
    local cost = fields[8] or #fields[4]
    if is_waiting(entry) then
      take_off_list(stream.bulk, from, entry)
      off = off + tonumber(rows)
    else
      redis.call('XDEL', place, entry)
    end
    local new = put('realtime', to, fields[2], fields[4], math.max(deadline, fields[6] or 0), cost,
      rows)
    moved[#moved + 1] = new .. ':' .. rows
    rows_moved = rows_moved + tonumber(rows)
  end
  added.realtime = added.realtime + rows_moved
  redis.call('HINCRBY', KEYS[4], 'bulk', -rows_moved)
  demand.bulk = demand.bulk - rows_moved
  if off > 0 then
    redis.call('HINCRBY', KEYS[4], 'bulk_waiting', -off)
    waiting.bulk = waiting.bulk - off
  end
  redis.call('HSET', record, 'ln', 'realtime', 'en', table.concat(moved, ' '),
    'sq', entered.realtime + added.realtime, 'by', to)
end

-- The prediction under way that this one can join, after what there is to do for that.
local function leader_of(own, identity, lane, parts, deadline, excess, caller)
  if identity == '' then return end
  local id = redis.call('HGET', KEYS[6], identity)
  if not id or redis.call('EXISTS', own) == 1 then return end
  local record = ARGV[7] .. id
  local found = redis.call('HMGET', record, 'st', 'go', 'n', 'left', 'fo', 'ln', 'en', 'dl', 'by')
  if found[1] ~= 'starting' and not found[2] then return end
  if tonumber(found[3]) ~= parts or found[3] ~= found[4] then return end
  if tonumber(found[5] or 0) >= tonumber(ARGV[9]) then return end
  if lane == 'realtime' and found[6] == 'bulk' then
    -- What a worker has may wait there for as long as realtime keeps it busy.
    if excess > 0 or not all_wait('bulk', found[7], found[9]) then return end
    promote(record, found[7], math.max(deadline, found[8]), found[9], caller)
  end
  return id
end

-- Predictions of the list. What is older can still be had by its id.
local MOST_LISTED = 100000

local function list(id, input)
  if input ~= '' then
    redis.call('XADD', KEYS[8], 'MAXLEN', '~', MOST_LISTED, '*', 'p', id)
  end
end

-- Record what was answered without a lane.
local function end_at_once(record, created, deadline, lane, retain, input, reply)
  redis.call('HSET', record, 'st', 'succeeded', 'ct', created, 'dl', deadline, 'ft', created,
    'ln', lane, 'n', 1, 'left', 0, 'rp', '', 'tt', retain, 'en', '', 'o0', reply)
  if input ~= '' then redis.call('HSET', record, 'in', input) end
  redis.call('PEXPIRE', record, retain)
  redis.call('HINCRBY', KEYS[7], 'succeeded', 1)
end

local outbox_full
local function is_outbox_full()
  if outbox_full == nil then outbox_full = redis.call('XLEN', KEYS[9]) >= tonumber(ARGV[11]) end
  return outbox_full
end

local deadlines, outcomes, joined, asleep = {}, {}, 0, false
local hits, notices, at = {}, {}, 14
for _ = 1, tonumber(ARGV[13]) do
  hits[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
at = at + 1
for _ = 1, tonumber(ARGV[at - 1]) do
  notices[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
for k = 10, #KEYS do
  local record = KEYS[k]
  local id, lane, created = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local deadline_ms = tonumber(ARGV[at + 3])
  local deadline = created + deadline_ms
  local reply, retain, input = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local identity = ARGV[at + 8]
  local read_until, cancel_at = ARGV[at + 9], ARGV[at + 10]
  local caller = ARGV[at + 11]
  local parts = tonumber(ARGV[at + 12])
  local later = false
  if parts > 0 and present < deadline - deadline_ms then
    asleep = true
    later = ARGV[at + 4] ~= '0'
    deadline = deadline + tonumber(ARGV[at + 4])
  end
  local first = at + 13
  at = first + 3 * parts
  local rows = 0
  for p = 0, parts - 1 do rows = rows + tonumber(ARGV[first + 3 * p]) end
  local excess = rows - room(lane, deadline_ms)
  local untold = notices[id] and is_outbox_full() and redis.call('EXISTS', record) == 0
  local leader = not untold and leader_of(record, identity, lane, parts, deadline, excess,
    caller)
  if untold then
    outcomes[#outcomes + 1] = 4
  elseif #letters > 0 and redis.call('EXISTS', record) == 0 and letter_gone() then
    outcomes[#outcomes + 1] = 2
  elseif parts == 0 then
    local fresh = redis.call('EXISTS', record) == 0
    if fresh then
      end_at_once(record, created, deadline, lane, retain, input, hits[id])
      list(id, input)
      for _, event in ipairs({ 'start', 'output', 'completed' }) do
        tell_of(KEYS[9], id, notices[id], event)
      end
    end
    outcomes[#outcomes + 1] = fresh and 1 or 0
  elseif leader then
    local fields = { 'st', 'starting', 'ct', created, 'dl', deadline, 'ln', lane, 'n', parts,
      'left', parts, 'rp', reply, 'tt', retain, 'en', '', 'of', leader }
    if input ~= '' then
      fields[#fields + 1] = 'in'
      fields[#fields + 1] = input
    end
    if hits[id] then
      fields[#fields + 1] = 'hi'
      fields[#fields + 1] = hits[id]
    end
    if notices[id] then
      fields[#fields + 1] = 'no'
      fields[#fields + 1] = notices[id]
    end
    redis.call('HSET', record, unpack(fields))
    list(id, input)
    tell_of(KEYS[9], id, notices[id], 'start')
    redis.call('RPUSH', ARGV[8] .. leader, id)
    redis.call('HINCRBY', ARGV[7] .. leader, 'fo', 1)
    -- Outputs beside the leader's record are the only ones.
    local kept = tonumber(redis.call('HGET', ARGV[7] .. leader, 'tt'))
    if tonumber(retain) > kept then redis.call('HSET', ARGV[7] .. leader, 'tt', retain) end
    deadlines[#deadlines + 1] = deadline
    deadlines[#deadlines + 1] = id
    joined = joined + 1
    outcomes[#outcomes + 1] = 3
  elseif excess > 0 then
    outcomes[#outcomes + 1] = known(record, reply) and 0 or refused(lane, excess)
  elseif redis.call('EXISTS', record) == 1 then
    known(record, reply)
    outcomes[#outcomes + 1] = 0
  else
    local entries, had = {}, listed[lane]
    for p = 0, parts - 1 do
      local part = first + 3 * p
      local entry = put(lane, caller, id .. '.' .. p, ARGV[part + 2], later and deadline,
        ARGV[part + 1], ARGV[part])
      entries[#entries + 1] = entry .. ':' .. ARGV[part]
    end
    local fields = { 'st', 'starting', 'ct', created, 'dl', deadline, 'ln', lane, 'n', parts,
      'left', parts, 'rp', reply, 'tt', retain, 'en', table.concat(entries, ' '),
      'sq', entered[lane] + added[lane] + rows }
    if input ~= '' then
      fields[#fields + 1] = 'in'
      fields[#fields + 1] = input
    end
    if hits[id] then
      fields[#fields + 1] = 'hi'
      fields[#fields + 1] = hits[id]
    end
    if identity ~= '' then
      fields[#fields + 1] = 'id'
      fields[#fields + 1] = identity
      redis.call('HSET', KEYS[6], identity, id)
    end
    if listed[lane] > had and caller ~= '' then
      fields[#fields + 1] = 'by'
      fields[#fields + 1] = caller
    end
    if read_until ~= '' then
      fields[#fields + 1] = 'rd'
      fields[#fields + 1] = read_until
    end
    if cancel_at ~= '' then
      fields[#fields + 1] = 'ca'
      fields[#fields + 1] = cancel_at
    end
    if #letters > 0 then
      fields[#fields + 1] = 'rt'
      fields[#fields + 1] = ARGV[4]
      redis.call('XDEL', KEYS[5], unpack(letters))
    end
    if notices[id] then
      fields[#fields + 1] = 'no'
      fields[#fields + 1] = notices[id]
    end
    redis.call('HSET', record, unpack(fields))
    list(id, input)
    tell_of(KEYS[9], id, notices[id], 'start')
    deadlines[#deadlines + 1] = deadline
    deadlines[#deadlines + 1] = id
    added[lane] = added[lane] + rows
    outcomes[#outcomes + 1] = 1
  end
end
if #deadlines > 0 then redis.call('ZADD', KEYS[3], unpack(deadlines)) end
for lane, rows in pairs(added) do
  if rows > 0 then
    redis.call('HINCRBY', KEYS[4], lane, rows)
    redis.call('HINCRBY', KEYS[4], lane .. '_in', rows)
  end
  if listed[lane] > 0 then redis.call('HINCRBY', KEYS[4], lane .. '_waiting', listed[lane]) end
end
if joined > 0 then redis.call('HINCRBY', KEYS[7], 'joined', joined) end
wake_relays(KEYS[9])
for lane in pairs(ahead) do redis.call('PUBLISH', ARGV[12], lane .. ':') end
if asleep and ARGV[10] ~= '' then redis.call('PUBLISH', ARGV[10], '') end
return outcomes
