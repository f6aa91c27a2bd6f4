-- Tell what predictions have generated: keep it in their event streams, and publish it, one message
-- for each gateway that follows. Who has lost its lease is refused, and who generates for nobody
-- hears so: the prediction has ended, or its reader has not been there for longer than was said.
-- Repeating a call keeps nothing twice: a chunk's sequence is its entry's id.
--
-- The first chunk puts the deadline off: until then it bounds how long a prediction waits, from
-- then on how long it runs. Nothing puts it off beyond the time that the client has set.
--
-- KEYS  1 deadlines (zset)  2.. for each prediction: record (hash), events (stream)
-- ARGV  1 most events kept of one  2 how long one may run (ms), then for each prediction:
--       id, part, attempt, 1 if no more chunks follow, version of the artifact, number of chunks,
--       then for each chunk: sequence, chunk
-- Returns for each  2 nobody reads it any more  1 told  0 the prediction has ended
--                   -1 the lease is another's  -2 no such record any more
local SWEPT_MS = 3600000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local chunks, channels, outcomes = {}, {}, {}

local function publish_later(followers, chunk)
  for channel in string.gmatch(followers, '%S+') do
    if not chunks[channel] then
      chunks[channel] = {}
      channels[#channels + 1] = channel
    end
    local list = chunks[channel]
    list[#list + 1] = chunk
  end
end

-- A msgpack array is its header followed by its items, which are messages already.
local function msgpack_array(items)
  local n = #items
  if n < 16 then return string.char(0x90 + n) .. table.concat(items) end
  return string.char(0xdd, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. table.concat(items)
end

-- The sequence of the last chunk that is kept.
local function last_of(events)
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  return last and tonumber(string.match(last[1], '^%d+')) or 0
end

local at = 3
for key = 2, #KEYS, 2 do
  local record, events = KEYS[key], KEYS[key + 1]
  local id, part, attempt, ended = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local version, number = ARGV[at + 4], tonumber(ARGV[at + 5])
  local first = at + 6
  at = first + 2 * number
  local found = redis.call('HMGET', record, 'st', 'rp', 'a' .. part, 'tt', 'rd', 'ca')
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
    outcomes[#outcomes + 1] = 1
  end
end
for _, channel in ipairs(channels) do
  redis.call('PUBLISH', channel, msgpack_array(chunks[channel]))
end
return outcomes
