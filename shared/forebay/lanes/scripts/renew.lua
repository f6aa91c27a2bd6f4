-- Renew leases, but only those that are still the caller's: a plain XCLAIM by a worker that was
-- paused would take back what a peer has reclaimed meanwhile.
--
-- KEYS  1 lane, or what went ahead on it (stream)
-- ARGV  1 group  2 worker  3 idle time to set, in ms (0 renews; a large one releases)  4.. entry ids
-- Returns the entry ids that are no longer the caller's
local lost, mine = {}, {}
for i = 4, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if pending[1] then mine[#mine + 1] = ARGV[i] else lost[#lost + 1] = ARGV[i] end
end
if #mine > 0 then
  local claim = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
  for _, entry in ipairs(mine) do claim[#claim + 1] = entry end
  claim[#claim + 1] = 'IDLE'
  claim[#claim + 1] = ARGV[3]
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
return lost
