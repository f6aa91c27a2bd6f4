-- Delete a prediction that has ended, with what is kept beside its record.
--
-- Others that joined it have their replies in its record: there only its input is deleted, and the
-- rest goes when it is no longer kept.
--
-- KEYS  1 prediction record (hash)  2.. what is kept beside it: events (stream), outputs (string)
-- Returns 1, or 0 if it has not ended
local found = redis.call('HMGET', KEYS[1], 'st', 'fo', 'go')
if found[1] == 'starting' then return 0 end
if found[3] or tonumber(found[2] or 0) > 0 then
  redis.call('HDEL', KEYS[1], 'in')
  return 1
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 0) end
return 1
