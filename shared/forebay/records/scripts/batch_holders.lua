-- Who holds which batches.
--
-- KEYS  1 open batches (zset: batch -> held until, ms)
-- ARGV  1 key prefix of batches
-- Returns of each that is held its id, the mark of its holder and the name of the holder's process
local after = string.format('(%.0f', now_ms())
local held = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], after, '+inf', 'BYSCORE')) do
  local who = redis.call('HMGET', ARGV[1] .. id, 'by', 'who')
  if who[1] and who[2] then held[#held + 1] = { id, who[1], who[2] } end
end
return held
