-- Add a worker's counts to those of a day.
--
-- KEYS  1 sketch (hash: `STATISTIC BIN` -> how many)
-- ARGV  1 how long to keep it, ms  2 field  3 how many  4 field  …
for at = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
