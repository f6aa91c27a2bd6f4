-- Record that lines of a batch are done, and which segments of its files have what came of them.
-- Safe to repeat: lines that are done already are not counted again.
--
-- KEYS  1 batch (hash)  2 lines that are done (string, a bit each)  3 segments (list)
-- ARGV  1 mark  2 how many lines have an answer  3 how many an error  4 tokens asked  5 of these cached
--       6 tokens answered  7 segment of answers, or ''  8 segment of errors, or ''  9.. lines, from 0
-- Returns its status; nothing if who has the mark holds it no longer
if redis.call('HGET', KEYS[1], 'by') ~= ARGV[1] then return false end
if redis.call('GETBIT', KEYS[2], ARGV[9]) == 0 then
  for at = 9, #ARGV do redis.call('SETBIT', KEYS[2], ARGV[at], 1) end
  for at, count in ipairs({ 'completed', 'failed', 'input', 'cached', 'output' }) do
    redis.call('HINCRBY', KEYS[1], count, ARGV[at + 1])
  end
  if ARGV[7] ~= '' then redis.call('RPUSH', KEYS[3], 'out ' .. ARGV[7]) end
  if ARGV[8] ~= '' then redis.call('RPUSH', KEYS[3], 'err ' .. ARGV[8]) end
end
return redis.call('HGET', KEYS[1], 'st')
