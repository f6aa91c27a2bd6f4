-- Add to the logs of predictions under way what their code has said. Who has lost its lease is
-- refused, and so is what is said after the end. Of logs that grow too long the oldest lines go.
--
-- Who wants to be told of logs is, every half second at most: that is noted in the outbox. The last
-- lines are told with the end.
--
-- KEYS  1 outbox (stream; a channel too)  2.. for each prediction: record (hash)
-- ARGV  1 most bytes of one's logs  2 first line of those of which some are gone, then for each
--       prediction: id, part, attempt, lines, each with its end
-- Returns for each  1 added  0 the prediction has ended  -1 the lease is another's
--                   -2 no such record any more
local BETWEEN_MS = 500
local now = now_ms()
local most, cut = tonumber(ARGV[1]), ARGV[2]
local outcomes = {}

-- The last lines, as many as there is room for.
local function newest(text)
  if #text <= most then return text end
  local tail = string.sub(text, -(most - #cut))
  return cut .. string.sub(tail, string.find(tail, '\n', 1, true) + 1)
end

local at = 3
for key = 2, #KEYS do
  local record = KEYS[key]
  local id, part, attempt, lines = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local found = redis.call('HMGET', record, 'st', 'a' .. part, 'lg', 'no', 'nl')
  if not found[1] then
    outcomes[#outcomes + 1] = -2
  elseif (found[2] or '1') ~= attempt then
    outcomes[#outcomes + 1] = -1
  elseif found[1] ~= 'starting' then
    outcomes[#outcomes + 1] = 0
  else
    redis.call('HSET', record, 'lg', newest((found[3] or '') .. lines))
    if wants(found[4], 'logs') and now - (found[5] or 0) >= BETWEEN_MS then
      redis.call('HSET', record, 'nl', now)
      tell_of(KEYS[1], id, found[4], 'logs', string.format('%.0f', now))
    end
    outcomes[#outcomes + 1] = 1
  end
end
wake_relays(KEYS[1])
return outcomes
