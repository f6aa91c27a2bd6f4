-- Add to the logs of predictions under way what their code has said. Who has lost its lease is
-- refused, and so is what is said after the end.
--
-- KEYS  1 outbox (stream; a channel too)  2.. for each prediction: record (hash)
-- ARGV  1 most bytes of one's logs  2 first line of those of which some are gone, then for each
--       prediction: id, part, attempt, lines, each with its end
-- Returns for each  1 added  0 the prediction has ended  -1 the lease is another's
--                   -2 no such record any more
local most, cut = tonumber(ARGV[1]), ARGV[2]
local outcomes = {}

local at = 3
for key = 2, #KEYS do
  local record = KEYS[key]
  local id, part, attempt, lines = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local found = redis.call('HMGET', record, 'st', 'a' .. part)
  if not found[1] then
    outcomes[#outcomes + 1] = -2
  elseif (found[2] or '1') ~= attempt then
    outcomes[#outcomes + 1] = -1
  elseif found[1] ~= 'starting' then
    outcomes[#outcomes + 1] = 0
  else
    add_lines(record, id, lines, most, cut, KEYS[1])
    outcomes[#outcomes + 1] = 1
  end
end
wake_relays(KEYS[1])
return outcomes
