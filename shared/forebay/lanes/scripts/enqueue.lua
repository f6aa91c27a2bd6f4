-- Record predictions and add their computations to a lane, all or nothing for each prediction.
-- Idempotent by id: a retried call finds the record and adds nothing.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5.. one prediction record (hash) each
-- ARGV  1 most rows in realtime  2 most rows in bulk, then for each prediction:
--       id, lane, created (Unix ms), deadline in ms from then, reply channel or '',
--       retention in ms, input or '', number of parts, then for each part: rows, message
-- Returns for each prediction  1 enqueued  0 already known  -1 refused: the lane is full
local bound = { realtime = tonumber(ARGV[1]), bulk = tonumber(ARGV[2]) }
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local demand = {
  realtime = tonumber(redis.call('HGET', KEYS[4], 'realtime') or 0),
  bulk = tonumber(redis.call('HGET', KEYS[4], 'bulk') or 0),
}
local added = { realtime = 0, bulk = 0 }
local deadlines, outcomes = {}, {}
local at = 3
for k = 5, #KEYS do
  local record = KEYS[k]
  local id, lane, created = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local deadline = created + ARGV[at + 3]
  local reply, retain, input = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  local parts = tonumber(ARGV[at + 7])
  local first = at + 8
  at = first + 2 * parts
  local rows = 0
  for p = 0, parts - 1 do rows = rows + tonumber(ARGV[first + 2 * p]) end
  if demand[lane] + added[lane] + rows > bound[lane] then
    outcomes[#outcomes + 1] = redis.call('EXISTS', record) - 1
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
      'left', parts, 'rp', reply, 'tt', retain, 'en', table.concat(entries, ' ') }
    if input ~= '' then
      fields[#fields + 1] = 'in'
      fields[#fields + 1] = input
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
  if rows > 0 then redis.call('HINCRBY', KEYS[4], lane, rows) end
end
return outcomes
