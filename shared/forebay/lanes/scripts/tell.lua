-- Tell what predictions have generated: keep it in their event streams, and publish it, one message
-- for each gateway that follows. Who has lost its lease is refused, and who generates for nobody
-- hears so: the prediction has ended, or its reader has not been there for longer than was said.
-- Repeating a call keeps nothing twice: a chunk's sequence is its entry's id.
--
-- The first chunk puts the deadline off: until then it bounds how long a prediction waits, from
-- then on how long it runs. Nothing puts it off beyond the time that the client has set.
--
-- Who wants to be told of outputs is, every half second at most: that is noted in the outbox.
--
-- KEYS  1 deadlines (zset)  2 outbox (stream; a channel too)
--       3.. for each prediction: record (hash), events (stream)
-- ARGV  1 most events kept of one  2 how long one may run (ms), then for each prediction:
--       id, part, attempt, 1 if no more chunks follow, version of the artifact, number of chunks,
--       then for each chunk: sequence, chunk
-- Returns for each  2 nobody reads it any more  1 told  0 the prediction has ended
--                   -1 the lease is another's  -2 no such record any more
local SWEPT_MS = 3600000
local now = now_ms()
local outcomes = {}

-- The sequence of the last chunk that is kept.
local function last_of(events)
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  return last and tonumber(string.match(last[1], '^%d+')) or 0
end

local BETWEEN_MS = 500

local at = 3
for key = 3, #KEYS, 2 do
  local record, events = KEYS[key], KEYS[key + 1]
  local id, part, attempt, ended = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local version, number = ARGV[at + 4], tonumber(ARGV[at + 5])
  local first = at + 6
  at = first + 2 * number
  local found = redis.call('HMGET', record, 'st', 'rp', 'a' .. part, 'tt', 'rd', 'ca', 'no',
    'nt')
  if not found[1] then
    outcomes[#outcomes + 1] = -2
  elseif (found[3] or '1') ~= attempt then
    outcomes[#outcomes + 1] = -1
  elseif found[1] ~= 'starting' then
    outcomes[#outcomes + 1] = 0
  elseif found[5] and tonumber(found[5]) < now then
    outcomes[#outcomes + 1] = 2
  else
    local last = last_of(events)
    for i = first, at - 2, 2 do
      local sequence, chunk = tonumber(ARGV[i]), ARGV[i + 1]
      if sequence > last then
        local fields = { 'c', chunk }
        if sequence == 1 then fields = { 'c', chunk, 'v', version } end
        redis.call('XADD', events, 'MAXLEN', '~', ARGV[1], ARGV[i] .. '-0', unpack(fields))
      end
      publish_later(found[2], chunk)
    end
    if ARGV[first] == '1' then
      local deadline = math.min(now + ARGV[2], tonumber(found[6] or math.huge))
      redis.call('ZADD', KEYS[1], 'XX', 'GT', string.format('%.0f', deadline), id)
      redis.call('PEXPIRE', events, ARGV[2] + found[4] + SWEPT_MS)
    end
    if ended == '1' then redis.call('PEXPIRE', events, found[4] + SWEPT_MS) end
    if wants(found[7], 'output') and now - (found[8] or 0) >= BETWEEN_MS then
      redis.call('HSET', record, 'nt', now)
      tell_of(KEYS[2], id, found[7], 'output', ARGV[at - 2])
    end
    outcomes[#outcomes + 1] = 1
  end
end
publish_all()
wake_relays(KEYS[2])
return outcomes
