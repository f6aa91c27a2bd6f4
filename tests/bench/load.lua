-- What wrk sends and how it judges the answers.
-- Arguments: a file with one request body a line; a text that every right answer holds; how many
-- seconds of lead-in pass before answers are counted.
-- At the end one line of JSON goes to stderr; times in it are microseconds.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *now);
]]
local MONOTONIC = ffi.os == "OSX" and 6 or 1

local prepared = {}
local cursor = 0
local marker
local lead
local begun
local clock = ffi.new("bench_time")
local threads = {}
-- Global, so that the main state can read them through thread:get.
right = 0 -- answers after the lead-in that were right
wrong = 0 -- answers at any time that were not
lead_us = 0

local function now()
  ffi.C.clock_gettime(MONOTONIC, clock)
  return tonumber(clock.seconds) + tonumber(clock.nanoseconds) / 1e9
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  marker = args[2]
  lead = tonumber(args[3])
  lead_us = lead * 1e6
  for body in io.lines(args[1]) do
    prepared[#prepared + 1] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  begun = begun or now()
  cursor = cursor % #prepared + 1
  return prepared[cursor]
end

function response(status, headers, body)
  if status < 200 or status > 299 or not string.find(body, marker, 1, true) then
    wrong = wrong + 1
  elseif now() - begun >= lead then
    right = right + 1
  end
end

function done(summary, latency, requests)
  local total = { right = 0, wrong = 0 }
  for _, thread in ipairs(threads) do
    total.right = total.right + thread:get("right")
    total.wrong = total.wrong + thread:get("wrong")
  end
  local errors = summary.errors
  local function at(share)
    if summary.requests == 0 then return 0 end
    return latency:percentile(share)
  end
  io.stderr:write(string.format(
    '{"responses":%d,"right":%d,"wrong":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,'
      .. '"counted_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d}\n',
    summary.requests, total.right, total.wrong, errors.connect, errors.read, errors.write,
    errors.timeout, summary.duration - threads[1]:get("lead_us"), at(50), at(90), at(99)))
end
