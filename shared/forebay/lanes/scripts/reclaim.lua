-- Take over leases that lapsed, or whose worker is gone, and give each a new attempt number, so
-- that whatever the old owner still says is refused. What another worker was running gets a
-- strike: it may be why that worker is gone; and a line in the logs, as what its code has said
-- there may be said again. What it had not begun gets none.
--
-- KEYS  1 lane, or what went ahead on it (stream)  2 demand (hash)  3 workers (zset: worker -> present until, ms)
--       4 running (hash: worker -> entries it runs, as "LANE:ENTRY ..."; "WORKER why" -> reason)
--       5 outbox (stream; a channel too)
-- ARGV  1 group  2 worker  3 rows wanted  4 name of the lane
--       5 leases idle for so many ms have lapsed  6 1 if silence counts: leases lapse, and the
--       absent are gone  7 key prefix of prediction records  8 leases idle for so many ms were let
--       go  9 most bytes of one's logs  10 first line of those of which some are gone
--       11.. workers whose process is known to have ended
-- Returns entries { id, attempt, strikes, { field, value, ... } }
local entries = redis.call('XLEN', KEYS[1])
if entries == 0 then return {} end
local now = now_ms()
local told = redis.call('HMGET', KEYS[2], ARGV[4], ARGV[4] .. '_waiting')
local rows = tonumber(told[1] or entries) - tonumber(told[2] or 0)
local most = math.max(math.floor(tonumber(ARGV[3]) * entries / math.max(rows, 1)), 1)
local ended = {}
for i = 11, #ARGV do ended[ARGV[i]] = true end
local found, seen = {}, {}

local function add(pending)
  for _, row in ipairs(pending) do
    if #found < most and not seen[row[1]] then
      seen[row[1]] = true
      found[#found + 1] = { row[1], row[4], row[2] }
    end
  end
end

local function absent(name)
  return tonumber(redis.call('ZSCORE', KEYS[3], name) or 0) < now
end

-- Whose own presence has lapsed was silent, too: after a pause of the server, say, through which
-- this call has waited. It is no judge of the others' silence.
local judges = ARGV[6] == '1' and not absent(ARGV[2])
local lapse = judges and ARGV[5] or ARGV[8]

add(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', lapse, '-', '+', most))
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #consumer, 2 do about[consumer[i]] = consumer[i + 1] end
  local name = about['name']
  if #found < most and about['pending'] > 0 and name ~= ARGV[2]
    and (ended[name] or judges and absent(name)) then
    add(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', most, name))
  end
end
local runs = {}
local function was_running(worker, entry)
  if worker == ARGV[2] then return false end
  if not runs[worker] then
    runs[worker] = {}
    local told = redis.call('HGET', KEYS[4], worker)
    for name in string.gmatch(told or '', '%S+') do runs[worker][name] = true end
  end
  return runs[worker][ARGV[4] .. ':' .. entry]
end

local taken = {}
for _, lease in ipairs(found) do
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, lease[1])
  if claimed[1] and claimed[1][2] then
    local fields = claimed[1][2]
    local attempt = lease[2] + 1
    local id, part = string.match(fields[2], '^(.*)%.(%d+)$')
    local record = ARGV[7] .. id
    local strikes = 0
    if redis.call('EXISTS', record) == 1 then
      redis.call('HSET', record, 'a' .. part, attempt)
      if was_running(lease[3], lease[1]) then
        strikes = redis.call('HINCRBY', record, 'k' .. part, 1)
        local why = redis.call('HGET', KEYS[4], lease[3] .. ' why') or 'which was lost'
        local line = string.format('%.0f attempt %d, run by %s, %s', now, lease[2], lease[3], why)
        local history = redis.call('HGET', record, 'h' .. part)
        redis.call('HSET', record, 'h' .. part, (history and history .. '\n' or '') .. line)
        if redis.call('HGET', record, 'st') == 'starting' then
          local lost = string.format('(attempt %d was lost with its worker)\n', lease[2])
          add_lines(record, id, lost, tonumber(ARGV[9]), ARGV[10], KEYS[5])
        end
      else
        strikes = tonumber(redis.call('HGET', record, 'k' .. part) or 0)
      end
    end
    taken[#taken + 1] = { lease[1], attempt, strikes, fields }
  end
end
wake_relays(KEYS[5])
return taken
