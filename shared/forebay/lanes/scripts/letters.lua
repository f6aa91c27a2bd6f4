-- Tell of dead letters, newest first, without what they carry: that may be megabytes each.
--
-- KEYS  1 dead letters (stream)
-- ARGV  1 where to begin: + or (ENTRY  2 letters to look at  3 only those of this prediction, its
--       own or one's that it had joined, or ''
-- Returns { where to go on or '', { entry, bytes, { field, value, ... } } ... }
local CARRIED = { m = true, rest = true, ['in'] = true, no = true }
local page = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])
local told = { #page == tonumber(ARGV[2]) and '(' .. page[#page][1] or '' }
for _, letter in ipairs(page) do
  local fields, bytes, prediction, joined = {}, 0, '', ''
  for i = 1, #letter[2], 2 do
    local name, value = letter[2][i], letter[2][i + 1]
    -- Counted as settle.lua counts them.
    if name ~= 'before' then bytes = bytes + #name + #value end
    if name == 'c' then prediction = string.match(value, '^(.*)%.%d+$') or '' end
    if name == 'joined' then joined = value end
    if not CARRIED[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  if ARGV[3] == '' or ARGV[3] == prediction or string.find(joined, ARGV[3], 1, true) then
    told[#told + 1] = { letter[1], bytes, fields }
  end
end
return told
