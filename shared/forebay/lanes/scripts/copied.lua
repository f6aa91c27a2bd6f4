-- Keep the books of a shadow: what it was sent, and what came of comparing it.
--
-- KEYS  1 copies (list: what waits to be compared)  2 disagreement (hash)
-- ARGV  1 most copies that wait  2 version of the shadow's artifact that was compared, empty if none
--       3 sum of differences  4 the largest  5 counters, so many  6 … each as field, by how much
--       … copies to wait
-- What is counted is of one artifact: with another, comparing starts anew.
local of = ARGV[2]
if of ~= '' and redis.call('HGET', KEYS[2], 'of') ~= of then
  redis.call('HDEL', KEYS[2], 'rows', 'differ', 'sum', 'max', 'failed', 'gone')
  redis.call('HSET', KEYS[2], 'of', of, 'since', redis.call('TIME')[1])
end
local at = 6
for _ = 1, ARGV[5] do
  redis.call('HINCRBY', KEYS[2], ARGV[at], ARGV[at + 1])
  at = at + 2
end
if of ~= '' then
  local sum = tonumber(redis.call('HGET', KEYS[2], 'sum') or 0) + tonumber(ARGV[3])
  local most = math.max(tonumber(redis.call('HGET', KEYS[2], 'max') or 0), tonumber(ARGV[4]))
  redis.call('HSET', KEYS[2], 'sum', string.format('%.9g', sum), 'max', string.format('%.9g', most))
end
for n = at, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[n])
end
local over = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1])
if over > 0 then
  redis.call('LTRIM', KEYS[1], over, -1)
  redis.call('HINCRBY', KEYS[2], 'dropped', over)
end
