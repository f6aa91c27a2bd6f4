-- Delete predictions that have ended, with what is kept beside their records: `forget.lua` of many.
--
-- KEYS  1.. prediction records (hash)
-- ARGV  1.. for each: key of its events (stream), key prefix of its outputs (string)
-- Returns how many have not ended, and stay
local under_way = 0
for k, record in ipairs(KEYS) do
  local found = redis.call('HMGET', record, 'st', 'fo', 'go', 'of', 'n', 'a0')
  if found[1] == 'starting' then
    under_way = under_way + 1
  elseif found[3] or tonumber(found[2] or 0) > 0 then
    redis.call('HDEL', record, 'in')
  elseif found[1] then
    if not found[4] then
      for part = 0, tonumber(found[5]) - 1 do
        local attempt = found[6]
        if part > 0 then attempt = redis.call('HGET', record, 'a' .. part) end
        redis.call('PEXPIRE', ARGV[2 * k] .. part .. ':' .. (attempt or '1'), 0)
      end
    end
    redis.call('PEXPIRE', ARGV[2 * k - 1], 0)
    redis.call('PEXPIRE', record, 0)
  end
end
return under_way
