-- What waits behind a lane's ready stream, in a list for each caller, and how it comes forward: by
-- deficit round robin on cost (Shreedhar and Varghese, 1995). In its turn a caller is given a
-- quantum, and what it has pays for its oldest entries; what is left over is kept for its next turn.
-- A turn that ends for want of room goes on with the next refill.
--
-- While others wait, a caller of whom nothing does goes ahead with what a turn is worth, once in a while, as new flows do
-- in FQ-CoDel (RFC 8290): in a stream of its own beside the lane's, which is read first.
--
-- A list is a stream of its own beside the lane's, whose entries are `0-NUMBER`; no entry of a lane
-- is; those that went ahead are `1-NUMBER`. So a record tells by its entries which of them wait, and
-- where. Its field `by` tells whose list it is.

-- Rows that a ready stream takes, at least, and while no worker has told.
local FEWEST_READY, UNTOLD_READY = 8, 256
-- In bytes, as `Part.cost` counts.
local QUANTUM = 16384
-- What an entry costs at most: that many turns have to pass before it comes forward.
local MOST_COST = 8 * QUANTUM
-- Entries that one call brings forward. More would hold the server up.
local MOST_FORWARD = 1024
-- In so long a caller goes ahead with no more than a quantum.
local AHEAD_MS = 250

local function list_of(stream, caller) return stream .. CALLER .. (caller or '') end

local function is_waiting(entry) return string.sub(entry, 1, 2) == '0-' end

local function any_waiting(entries)
  return string.find(' ' .. entries, ' 0-', 1, true) ~= nil
end

-- The stream that an entry of a record is in.
local function stream_of(stream, entry, caller)
  if is_waiting(entry) then return list_of(stream, caller) end
  if string.sub(entry, 1, 2) == '1-' then return stream .. AHEAD end
  return stream
end

local function ready_most(told) return math.max(tonumber(told or UNTOLD_READY), FEWEST_READY) end

-- Rows of a stream that no worker has leased, by the average of its rows.
local function ready_rows(stream, group, rows)
  local entries = redis.call('XLEN', stream)
  if entries == 0 then return 0 end
  local pending = redis.pcall('XPENDING', stream, group)
  local leased = 0
  -- There is no group before the first worker.
  if not pending.err then leased = tonumber(pending[1]) end
  if leased >= entries then return 0 end
  rows = rows - redis.call('XLEN', stream .. AHEAD)
  return math.max(rows, entries) * (entries - leased) / entries
end

-- Whether a caller may go ahead with an entry; if so, that is noted. Where no worker has made the
-- stream for that, none would read it.
local function goes_ahead(stream, caller, cost, ready)
  if redis.call('EXISTS', list_of(stream, caller)) == 1 then return false end
  local ahead = stream .. AHEAD
  if redis.call('EXISTS', ahead) == 0 or redis.call('XLEN', ahead) >= ready then return false end
  local spent = stream .. SPENT .. string.format('%.0f', math.floor(now_ms() / AHEAD_MS))
  local now = redis.call('HINCRBY', spent, caller, math.ceil(math.min(tonumber(cost), MOST_COST)))
  redis.call('PEXPIRE', spent, 2 * AHEAD_MS)
  return now <= QUANTUM
end

-- Put an entry on its caller's list. Who calls counts its rows.
local function put_on_list(stream, caller, computation, message, deadline, cost, rows)
  local list = list_of(stream, caller)
  local entry = redis.call('XADD', list, '0-*', 'c', computation, 'm', message,
    'd', string.format('%.0f', deadline or 0), 'k', math.min(tonumber(cost), MOST_COST), 'r', rows)
  if redis.call('XLEN', list) == 1 then redis.call('RPUSH', stream .. TURNS, caller) end
  return entry
end

-- A caller has nothing left that waits.
local function forget_list(stream, caller)
  redis.call('PEXPIRE', list_of(stream, caller), 0)
  redis.call('HDEL', stream .. DEFICITS, caller)
end

-- Take an entry off its caller's list. Who calls counts its rows.
local function take_off_list(stream, caller, entry)
  local list = list_of(stream, caller)
  if redis.call('XDEL', list, entry) == 1 and redis.call('XLEN', list) == 0 then
    forget_list(stream, caller)
    redis.call('LREM', stream .. TURNS, 0, caller)
    if redis.call('HGET', stream .. DEFICITS, 'turn') == caller then
      redis.call('HDEL', stream .. DEFICITS, 'turn')
    end
  end
end

-- Put another entry in the place of one that a record tells of.
local function exchange_entry(record, entries, entry, new)
  local padded = ' ' .. entries
  local first, last = string.find(padded, ' ' .. entry .. ':', 1, true)
  if not first then return end
  redis.call('HSET', record, 'en',
    string.sub(padded, 2, first) .. new .. ':' .. string.sub(padded, last + 1))
end

local function bring_forward(stream, records, entry, fields)
  local new
  if fields[6] == '0' then
    new = redis.call('XADD', stream, '*', 'c', fields[2], 'm', fields[4])
  else
    new = redis.call('XADD', stream, '*', 'c', fields[2], 'm', fields[4], 'd', fields[6])
  end
  local record = records .. string.match(fields[2], '^(.*)%.%d+$')
  local entries = redis.call('HGET', record, 'en')
  if entries then exchange_entry(record, entries, entry, new) end
end

-- Bring forward what there is room for: up to so many rows that are ready.
--   told  of the demand: rows of the lane, rows of it that wait, rows that the ready stream takes
-- Returns how many rows came forward.
local function refill(demand, lane, stream, group, records, told, wanted)
  local waiting = tonumber(told[2] or 0)
  if waiting <= 0 then return 0 end
  local turns, deficits = stream .. TURNS, stream .. DEFICITS
  local ready = ready_rows(stream, group, tonumber(told[1] or 0) - waiting)
  local room = math.max(ready_most(told[3]), wanted or 0) - ready
  local rows, moved = 0, 0
  while rows < room and moved < MOST_FORWARD do
    local caller = redis.call('HGET', deficits, 'turn')
    local deficit = 0
    if caller then
      deficit = tonumber(redis.call('HGET', deficits, caller) or 0)
    else
      caller = redis.call('LPOP', turns)
      if not caller then
        -- Nobody waits, whatever was counted.
        rows = waiting
        break
      end
      deficit = tonumber(redis.call('HGET', deficits, caller) or 0) + QUANTUM
    end
    local alone = redis.call('EXISTS', turns) == 0
    local list, state = list_of(stream, caller), 'on'
    while state == 'on' do
      local page = redis.call('XRANGE', list, '-', '+', 'COUNT', alone and 64 or 8)
      local gone = {}
      for _, waiter in ipairs(page) do
        local fields = waiter[2]
        local cost = tonumber(fields[8])
        if rows >= room or moved >= MOST_FORWARD then state = 'no room' break end
        if not alone and cost > deficit then state = 'turn over' break end
        bring_forward(stream, records, waiter[1], fields)
        gone[#gone + 1] = waiter[1]
        deficit = math.max(deficit - cost, 0)
        rows, moved = rows + tonumber(fields[10]), moved + 1
      end
      if #gone > 0 then redis.call('XDEL', list, unpack(gone)) end
      if state == 'on' and redis.call('XLEN', list) == 0 then state = 'done' end
    end
    if state == 'done' then
      forget_list(stream, caller)
      redis.call('HDEL', deficits, 'turn')
    elseif state == 'turn over' then
      redis.call('HSET', deficits, caller, deficit)
      redis.call('HDEL', deficits, 'turn')
      redis.call('RPUSH', turns, caller)
    else
      redis.call('HSET', deficits, caller, deficit, 'turn', caller)
    end
  end
  if rows > 0 then redis.call('HINCRBY', demand, lane .. '_waiting', -rows) end
  return rows
end
