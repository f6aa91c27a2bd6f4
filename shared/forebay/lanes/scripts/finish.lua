-- End whole predictions by authority rather than by result: expired, canceled. What is still on
-- a lane comes off it, unless others that joined the prediction still want it; then it goes once
-- the last of them has ended. The workers that hold any of it are told. First terminal status wins.
-- Who is to be told of the end is noted in the outbox. What waits behind a lane's ready stream comes
-- forward in the place of what was taken off that.
--
-- KEYS  1 realtime lane (stream)  2 bulk lane (stream)  3 deadlines (zset)  4 demand (hash)
--       5 counters (hash)  6 leaders (hash: identity -> prediction)
--       7 outbox (stream; a channel too)  8.. one prediction record (hash) each
-- ARGV  1 group  2 channel that workers listen on
--       3 key prefix of the messages of settled parts  4 key prefix of prediction records
--       5 key prefix of lists of those that joined, then for each prediction:
--       id, status, reply message
-- Returns for each  1 ended now  0 had ended before  -2 no such record
local now = now_ms()
local stream = { realtime = KEYS[1], bulk = KEYS[2] }
local outcomes, leased, emptier = {}, {}, {}

-- Nobody wants it any more: take what is left of it off its lane.
local function take_off(record, id)
  local found = redis.call('HMGET', record, 'ln', 'en', 'id', 'by')
  local lane = found[1]
  local number, rows, unlisted = 0, 0, 0
  for entry, entry_rows in string.gmatch(found[2], '(%d+%-%d+):(%d+)') do
    if redis.call('HEXISTS', record, 'o' .. number) == 0 then
      if is_waiting(entry) then
        take_off_list(stream[lane], found[4] or '', entry)
        unlisted = unlisted + tonumber(entry_rows)
      else
        local place = stream_of(stream[lane], entry)
        if redis.call('XACK', place, ARGV[1], entry) > 0 then
          leased[#leased + 1] = lane .. ':' .. entry
        end
        redis.call('XDEL', place, entry)
        rows = rows + tonumber(entry_rows)
      end
    end
    number = number + 1
  end
  if unlisted > 0 then
    redis.call('HINCRBY', KEYS[4], lane, -unlisted)
    redis.call('HINCRBY', KEYS[4], lane .. '_waiting', -unlisted)
  end
  if rows > 0 then
    if redis.call('HINCRBY', KEYS[4], lane, -rows) > 0 then emptier[lane] = true end
  end
  redis.call('PEXPIRE', ARGV[3] .. id, 0)
  if found[3] then
    if redis.call('HGET', KEYS[6], found[3]) == id then redis.call('HDEL', KEYS[6], found[3]) end
    redis.call('PEXPIRE', ARGV[5] .. id, 0)
  end
end

-- One that joined has ended; the last one out ends what it joined, if that lives on for them only.
local function unsubscribe(leader, id)
  local record = ARGV[4] .. leader
  if redis.call('EXISTS', record) == 0 then return end
  redis.call('LREM', ARGV[5] .. leader, 1, id)
  local left = redis.call('HINCRBY', record, 'fo', -1)
  if left == 0 and redis.call('HDEL', record, 'go') == 1 then
    take_off(record, leader)
    redis.call('PEXPIRE', record, redis.call('HGET', record, 'tt'))
  end
end

local at = 6
for k = 8, #KEYS do
  local record = KEYS[k]
  local id, status, message = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local found = redis.call('HMGET', record, 'st', 'rp', 'tt', 'of', 'fo', 'no')
  redis.call('ZREM', KEYS[3], id)
  if not found[1] then
    outcomes[#outcomes + 1] = -2
  elseif found[1] ~= 'starting' then
    outcomes[#outcomes + 1] = 0
  else
    redis.call('HSET', record, 'st', status, 'er', message, 'ft', now)
    if tonumber(found[5] or 0) > 0 then
      redis.call('HSET', record, 'go', 1)
    else
      if found[4] then unsubscribe(found[4], id) else take_off(record, id) end
      redis.call('PEXPIRE', record, found[3])
    end
    redis.call('HINCRBY', KEYS[5], status, 1)
    tell_of(KEYS[7], id, found[6], 'completed')
    for channel in string.gmatch(found[2], '%S+') do
      -- 0x91: a msgpack array of one item.
      redis.call('PUBLISH', channel, string.char(0x91) .. message)
    end
    outcomes[#outcomes + 1] = 1
  end
end
for lane in pairs(emptier) do
  local told = redis.call('HMGET', KEYS[4], lane, lane .. '_waiting', 'ready')
  refill(KEYS[4], lane, stream[lane], ARGV[1], ARGV[4], told)
end
wake_relays(KEYS[7])
if #leased > 0 then redis.call('PUBLISH', ARGV[2], table.concat(leased, ' ')) end
return outcomes
