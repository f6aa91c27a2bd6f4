-- Lend a gateway a slice of an API key's allowance, and take back what it has not spent.
--
-- Requests are a bucket that holds as many as a minute allows, and fills as evenly. Slots are lent
-- until a time, so that those of a gateway that has died come back.
--
-- KEYS  1 what is left (hash)  2 slots by gateway (hash)
-- ARGV  1 requests a minute, 0 for any number  2 requests asked for  3 requests given back
--       4 slots there are, 0 for any number  5 gateway  6 slots it wants in all
--       7 for how long, in ms  8 how long the keys are kept, in ms
-- Returns  requests lent, how many are left, in how many ms there is another if it got fewer than it
--          asked for, slots lent in all
local now = now_ms()
local most, lent, left, wait = tonumber(ARGV[1]), 0, 0, 0
if most > 0 then
  local wanted = tonumber(ARGV[2])
  local told = redis.call('HMGET', KEYS[1], 'left', 'at')
  local passed = math.max(now - tonumber(told[2] or now), 0)
  left = tonumber(told[1] or most) + tonumber(ARGV[3]) + passed * most / 60000
  left = math.min(left, most)
  lent = math.min(wanted, math.floor(left))
  left = left - lent
  if lent < wanted then wait = math.max(math.ceil((1 - left) * 60000 / most), 1) end
  redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left),
    'at', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
end
local slots, held = tonumber(ARGV[4]), 0
if slots > 0 then
  local others = 0
  local found = redis.call('HGETALL', KEYS[2])
  for k = 1, #found, 2 do
    local has, till = string.match(found[k + 1], '(%d+) (%d+)')
    if tonumber(till) <= now then
      redis.call('HDEL', KEYS[2], found[k])
    elseif found[k] ~= ARGV[5] then
      others = others + tonumber(has)
    end
  end
  held = math.max(math.min(tonumber(ARGV[6]), slots - others), 0)
  if held > 0 then
    redis.call('HSET', KEYS[2], ARGV[5],
      string.format('%.0f %.0f', held, now + tonumber(ARGV[7])))
    redis.call('PEXPIRE', KEYS[2], ARGV[8])
  else
    redis.call('HDEL', KEYS[2], ARGV[5])
  end
end
return { lent, math.floor(left), wait, held }
