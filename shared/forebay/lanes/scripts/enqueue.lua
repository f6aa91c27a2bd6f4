-- Record predictions and add their computations to a lane, all or nothing for each prediction.
-- Idempotent by id: a retried call finds the record and adds nothing. A replay enqueues one
-- prediction and deletes the dead letters that it comes from: both, or neither.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 dead letters (stream)  6.. one prediction record (hash) each
-- ARGV  1 most rows in realtime  2 most rows in bulk  3 1 if realtime takes more than that as long
--       as it is worked off before the deadline  4 id of the dead prediction that is replayed, or
--       ''  5 its dead letters, as 'ENTRY ...'; then for each prediction:
--       id, lane, created (Unix ms), deadline in ms from then, reply channel or '',
--       retention in ms, input or '', number of parts, then for each part: rows, message
-- Returns for each prediction  1 enqueued  0 already known  2 a dead letter is gone  less: refused,
--                              the lane is full for so many ms; -1 if nobody can tell
local bound = { realtime = tonumber(ARGV[1]), bulk = tonumber(ARGV[2]) }
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local told = redis.call('HMGET', KEYS[4], 'realtime', 'bulk', 'realtime_in', 'bulk_in', 'rate')
local demand = { realtime = tonumber(told[1] or 0), bulk = tonumber(told[2] or 0) }
local entered = { realtime = tonumber(told[3] or 0), bulk = tonumber(told[4] or 0) }
local rate = tonumber(told[5] or 0)
local added = { realtime = 0, bulk = 0 }

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

local deadlines, outcomes = {}, {}
local at = 6
for k = 6, #KEYS do
  local record = KEYS[k]
  local id, lane, created = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local deadline_ms = tonumber(ARGV[at + 3])
  local deadline = created + deadline_ms
  local reply, retain, input = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local parts = tonumber(ARGV[at + 7])
  local first = at + 8
  at = first + 2 * parts
  local rows = 0
  for p = 0, parts - 1 do rows = rows + tonumber(ARGV[first + 2 * p]) end
  local excess = rows - room(lane, deadline_ms)
  if #letters > 0 and redis.call('EXISTS', record) == 0 and letter_gone() then
    outcomes[#outcomes + 1] = 2
  elseif excess > 0 then
    outcomes[#outcomes + 1] = redis.call('EXISTS', record) == 1 and 0 or refused(lane, excess)
  elseif redis.call('HSETNX', record, 'st', 'starting') == 0 then
    outcomes[#outcomes + 1] = 0
  else
    local entries = {}
    for p = 0, parts - 1 do
      local entry = redis.call('XADD', stream[lane], '*',
        'c', id .. '.' .. p, 'm', ARGV[first + 2 * p + 1])
      entries[#entries + 1] = entry .. ':' .. ARGV[first + 2 * p]
    end
    local fields = { 'ct', created, 'dl', deadline, 'ln', lane, 'n', parts,
      'left', parts, 'rp', reply, 'tt', retain, 'en', table.concat(entries, ' '),
      'sq', entered[lane] + added[lane] + rows }
    if input ~= '' then
      fields[#fields + 1] = 'in'
      fields[#fields + 1] = input
    end
    if #letters > 0 then
      fields[#fields + 1] = 'rt'
      fields[#fields + 1] = ARGV[4]
      redis.call('XDEL', KEYS[5], unpack(letters))
    end
    redis.call('HSET', record, unpack(fields))
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
end
return outcomes
