-- Hand out deliveries that are due: none to two who ask at once. What is handed out is due again after
-- a while, should it be lost: later the longer it has been tried, as it may only wait for its turn.
-- What has waited too long for a receiver that nobody calls any more has failed.
--
-- KEYS  1 due (zset)  2 waits (hash)
-- ARGV  1 least ms until they are due again  2 most  3 ms that one may wait  4 key prefix of deliveries
--       5 ms that those are kept that have failed
-- Returns id and host of each, flat
local now = now_ms()
local handed = {}
local LONGEST_MS = 300000
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  local record = ARGV[4] .. id
  local found = redis.call('HMGET', record, 'st', 'o', 'sa')
  if found[1] ~= 'waiting' then
    redis.call('ZREM', KEYS[1], id)
  elseif now - found[3] > tonumber(ARGV[3]) then
    redis.call('HSET', record, 'st', 'failed')
    wait_more(KEYS[2], found[2], -1)
    redis.call('PEXPIRE', record, ARGV[5])
    redis.call('ZREM', KEYS[1], id)
  else
    local again = math.max(tonumber(ARGV[1]), math.min((now - found[3]) / 4, LONGEST_MS))
    redis.call('ZADD', KEYS[1], math.floor(now + again), id)
    handed[#handed + 1] = id
    handed[#handed + 1] = found[2]
  end
end
return handed
