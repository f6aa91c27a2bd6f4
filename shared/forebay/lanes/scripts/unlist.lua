-- Take predictions that are no longer kept off the list.
--
-- KEYS  1 predictions that have an id (stream)
-- ARGV  1 key prefix of prediction records  2 entry after which to look, or '-'  3 most to look at
-- Returns { how many were taken off, the last entry looked at, or '' if there are no more }
local from = ARGV[2] == '-' and '-' or '(' .. ARGV[2]
local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[3])
local gone = {}
for _, entry in ipairs(entries) do
  if redis.call('EXISTS', ARGV[1] .. entry[2][2]) == 0 then gone[#gone + 1] = entry[1] end
end
if #gone > 0 then redis.call('XDEL', KEYS[1], unpack(gone)) end
return { #gone, #entries < tonumber(ARGV[3]) and '' or entries[#entries][1] }
