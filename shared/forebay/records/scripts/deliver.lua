-- Record what is to be delivered. Idempotent by id: what is there already is left as it is. Somebody
-- is about to be told to send it; should that be lost, it is due after a while. Where too many wait
-- for its host it has failed at once: who never answers takes up no room of others.
--
-- KEYS  1 due (zset)  2 deliveries (zset)  3 waits (hash)  4.. one delivery (hash) each
-- ARGV  1 ms until it is due  2 most that wait for a host  3 the attempt that tells of more, a line
--       4 ms that those are kept, then for each delivery:
--       id, subject, event, URL, host, content type, body, trace or ''
-- Returns for each  1 recorded  0 already known, or failed
local now = now_ms()
local made, at = {}, 5
for k = 4, #KEYS do
  local id = ARGV[at]
  if redis.call('HSETNX', KEYS[k], 'st', 'waiting') == 0 then
    made[#made + 1] = 0
  else
    redis.call('HSET', KEYS[k], 'p', ARGV[at + 1], 'e', ARGV[at + 2], 'u', ARGV[at + 3],
      'o', ARGV[at + 4], 'ct', ARGV[at + 5], 'b', ARGV[at + 6], 'at', now, 'sa', now, 'n', 0)
    if ARGV[at + 7] ~= '' then redis.call('HSET', KEYS[k], 'tp', ARGV[at + 7]) end
    redis.call('ZADD', KEYS[2], now, id)
    if tonumber(redis.call('HGET', KEYS[3], ARGV[at + 4]) or 0) < tonumber(ARGV[2]) then
      wait_more(KEYS[3], ARGV[at + 4], 1)
      redis.call('ZADD', KEYS[1], now + ARGV[1], id)
      made[#made + 1] = 1
    else
      redis.call('HSET', KEYS[k], 'st', 'failed', 'l', ARGV[3])
      redis.call('PEXPIRE', KEYS[k], ARGV[4])
      made[#made + 1] = 0
    end
  end
  at = at + 8
end
return made
