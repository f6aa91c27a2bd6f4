-- Give a batch another status. One that is being cancelled takes no other than its end.
-- Safe to repeat. What ends is kept for its retention, and loses what only who works on it needs; it
-- stays among the open ones until who wants to know has been told.
--
-- KEYS  1 batch (hash)  2 lines that are done (string)  3 segments (list)
-- ARGV  1 mark  2 status  3 retention in ms if that is its end, else 0
--       4.. further fields and their values
-- Returns its status then; nothing if who has the mark holds it no longer
if redis.call('HGET', KEYS[1], 'by') ~= ARGV[1] then return false end
local status = redis.call('HGET', KEYS[1], 'st')
if status == ARGV[2] then return status end
local ends = tonumber(ARGV[3]) > 0
if status == 'cancelling' and not ends then return status end
redis.call('HSET', KEYS[1], 'st', ARGV[2],
  'at ' .. ARGV[2], string.format('%.0f', now_ms()))
if #ARGV > 3 then redis.call('HSET', KEYS[1], unpack(ARGV, 4)) end
if ends then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return ARGV[2]
