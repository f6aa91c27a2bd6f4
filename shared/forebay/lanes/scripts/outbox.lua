-- What is to be told of predictions. The first letters of a notice say of which events.
local noted = false

local function wants(notice, event)
  return notice and string.find(notice, '^%a*' .. string.sub(event, 1, 1)) ~= nil
end

-- Note an event, if somebody is to be told of it; nothing of an outbox goes but what was moved.
local function tell_of(outbox, id, notice, event, sequence)
  if not wants(notice, event) then return end
  local fields = { 'p', id, 'e', event, 'n', notice }
  if sequence then
    fields[#fields + 1] = 's'
    fields[#fields + 1] = sequence
  end
  redis.call('XADD', outbox, '*', unpack(fields))
  noted = true
end

-- Have relays look, if anything was noted.
local function wake_relays(outbox)
  if noted then redis.call('PUBLISH', outbox, '') end
end
