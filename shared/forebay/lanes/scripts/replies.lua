-- One message to each gateway that follows any of what a script is about.
local messages, channels = {}, {}

local function publish_later(followers, message)
  for channel in string.gmatch(followers, '%S+') do
    if not messages[channel] then
      messages[channel] = {}
      channels[#channels + 1] = channel
    end
    local list = messages[channel]
    list[#list + 1] = message
  end
end

-- A msgpack array is its header followed by its items, which are messages already.
local function msgpack_array(items)
  local n = #items
  if n < 16 then return string.char(0x90 + n) .. table.concat(items) end
  return string.char(0xdd, math.floor(n / 16777216) % 256, math.floor(n / 65536) % 256,
    math.floor(n / 256) % 256, n % 256) .. table.concat(items)
end

local function publish_all()
  for _, channel in ipairs(channels) do
    redis.call('PUBLISH', channel, msgpack_array(messages[channel]))
  end
end
