-- Have the replies and chunks of a prediction that is under way published to one gateway more.
--
-- KEYS  1 prediction record (hash)
-- ARGV  1 reply channel
-- Returns { status, parts }, or nil if there is no such record
-- As in enqueue.
local MOST_CHANNELS = 8

local found = redis.call('HMGET', KEYS[1], 'st', 'n', 'rp')
if not found[1] then return nil end
if found[1] == 'starting' then
  local channels = {}
  for channel in string.gmatch(found[3], '%S+') do
    if channel ~= ARGV[1] then channels[#channels + 1] = channel end
  end
  channels[#channels + 1] = ARGV[1]
  if #channels > MOST_CHANNELS then table.remove(channels, 1) end
  redis.call('HSET', KEYS[1], 'rp', table.concat(channels, ' '))
end
return { found[1], found[2] }
