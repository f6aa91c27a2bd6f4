-- Lines of a prediction's logs. Of logs that grow too long the oldest go.
--
-- Who wants to be told of logs is, every half second at most: that is noted in the outbox. The last
-- lines are told with the end.
local BETWEEN_MS = 500

-- The last lines, as many as there is room for.
local function newest(text, most, cut)
  if #text <= most then return text end
  local tail = string.sub(text, -(most - #cut))
  return cut .. string.sub(tail, string.find(tail, '\n', 1, true) + 1)
end

-- Add lines, each with its end, to a prediction under way.
local function add_lines(record, id, lines, most, cut, outbox)
  local now = now_ms()
  local found = redis.call('HMGET', record, 'lg', 'no', 'nl')
  redis.call('HSET', record, 'lg', newest((found[1] or '') .. lines, most, cut))
  if wants(found[2], 'logs') and now - (found[3] or 0) >= BETWEEN_MS then
    redis.call('HSET', record, 'nl', now)
    tell_of(outbox, id, found[2], 'logs', string.format('%.0f', now))
  end
end
