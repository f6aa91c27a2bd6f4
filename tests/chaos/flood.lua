-- A client who asks again soon after each answer, always for something else. One to a thread.
-- Arguments: folder that takes a file of answers for each client; first part of each value; bytes of
-- padding; pause in ms, on average.
-- A line for each answer: status, microseconds, Retry-After or -, and the body of a 201.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } flood_time;
  int clock_gettime(int clock, flood_time *now);
]]
local MONOTONIC = ffi.os == "OSX" and 6 or 1
local clock = ffi.new("flood_time")
local clients, number = 0, 0
local name, padding, pause_ms, answers, sent_us

local function now_us()
  ffi.C.clock_gettime(MONOTONIC, clock)
  return tonumber(clock.seconds) * 1e6 + tonumber(clock.nanoseconds) / 1e3
end

function setup(thread)
  clients = clients + 1
  thread:set("client", clients)
end

function init(args)
  name = args[2] .. "-" .. client
  padding = string.rep(" ", tonumber(args[3]))
  pause_ms = tonumber(args[4])
  answers = io.open(args[1] .. "/" .. name, "w")
  answers:setvbuf("line")
  math.randomseed(client)
end

function delay()
  return math.random(0, 2 * pause_ms)
end

function request()
  number = number + 1
  local value = '{"version":"echo","input":{"value":"' .. name .. "-" .. number .. '"}}'
  sent_us = now_us()
  return wrk.format("POST", nil, nil, value .. padding)
end

function response(status, headers, body)
  local took_us = math.floor(now_us() - sent_us)
  local again = headers["retry-after"] or headers["Retry-After"] or "-"
  answers:write(status, " ", took_us, " ", again, " ", status == 201 and body or "", "\n")
end
