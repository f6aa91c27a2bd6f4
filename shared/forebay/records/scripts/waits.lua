-- How many deliveries wait for each host; fewer than one are not noted.
local function wait_more(waits, host, by)
  if redis.call('HINCRBY', waits, host, by) <= 0 then redis.call('HDEL', waits, host) end
end
