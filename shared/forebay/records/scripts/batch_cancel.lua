-- Have a batch cancelled by who holds it, unless it is past that.
--
-- KEYS  1 batch (hash)
-- Returns its status before; nothing if there is no such batch
local status = redis.call('HGET', KEYS[1], 'st')
if status == 'validating' or status == 'in_progress' then
  redis.call('HSET', KEYS[1], 'st', 'cancelling',
    'at cancelling', string.format('%.0f', now_ms()))
end
return status
