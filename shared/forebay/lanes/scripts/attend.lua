-- Say that the readers of streams are still there. A prediction that ended, or that nobody has to
-- read, stays as it is.
--
-- KEYS  1.. for each prediction: record (hash)
-- ARGV  1 for how long they are there, from now on (ms)
local until_ms = now_ms() + ARGV[1]
for _, record in ipairs(KEYS) do
  if redis.call('HEXISTS', record, 'rd') == 1 then
    redis.call('HSET', record, 'rd', string.format('%.0f', until_ms))
  end
end
