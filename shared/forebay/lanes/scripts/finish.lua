-- End whole predictions by authority rather than by result: expired, canceled. What is still on
-- a lane comes off it; the workers that hold any of it are told. First terminal status wins.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 counters (hash)  6.. one prediction record (hash) each
-- ARGV  1 group  2 channel that workers listen on
--       3 key prefix of the messages of settled parts, then for each prediction:
--       id, status, reply message
-- Returns for each  1 ended now  0 had ended before  -2 no such record
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local outcomes, leased = {}, {}
local at = 4
for k = 6, #KEYS do
  local record = KEYS[k]
  local id, status, message = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local found = redis.call('HMGET', record, 'st', 'ln', 'rp', 'tt', 'en')
  redis.call('ZREM', KEYS[3], id)
  if not found[1] then
    outcomes[#outcomes + 1] = -2
  elseif found[1] ~= 'starting' then
    outcomes[#outcomes + 1] = 0
  else
    local lane = found[2]
    local number, rows, entries = 0, 0, {}
    for entry, entry_rows in string.gmatch(found[5], '(%d+%-%d+):(%d+)') do
      if redis.call('HEXISTS', record, 'o' .. number) == 0 then
        entries[#entries + 1] = entry
        rows = rows + tonumber(entry_rows)
      end
      number = number + 1
    end
    if #entries > 0 then
      if redis.call('XACK', stream[lane], ARGV[1], unpack(entries)) > 0 then
        for _, entry in ipairs(entries) do leased[#leased + 1] = lane .. ':' .. entry end
      end
      redis.call('XDEL', stream[lane], unpack(entries))
      redis.call('HINCRBY', KEYS[4], lane, -rows)
    end
    redis.call('HSET', record, 'st', status, 'er', message, 'ft', now)
    redis.call('PEXPIRE', record, found[4])
    redis.call('DEL', ARGV[3] .. id)
    redis.call('HINCRBY', KEYS[5], status, 1)
    if found[3] ~= '' then
      -- 0x91: a msgpack array of one item.
      redis.call('PUBLISH', found[3], string.char(0x91) .. message)
    end
    outcomes[#outcomes + 1] = 1
  end
end
if #leased > 0 then redis.call('PUBLISH', ARGV[2], table.concat(leased, ' ')) end
return outcomes
