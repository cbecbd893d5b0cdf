-- Sends the requests of a file in order, repeatedly or once each.
--
-- Arguments: the file, and "again" or "once". For each request, the file has a line with the length, then the complete
-- encoded request, so that nothing is built during the measurement.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local requests = {}
local is_again
local after_the_last = "GET /used-up HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
sent = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  is_again = args[2] == "again"
  while true do
    local length = file:read("*l")
    if not length then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
end

function request()
  sent = sent + 1
  if is_again then
    return requests[(sent - 1) % #requests + 1]
  end
  return requests[sent] or after_the_last
end

function done(summary, latency)
  local sent_by_all = 0
  for _, thread in ipairs(threads) do
    sent_by_all = sent_by_all + thread:get("sent")
  end
  local errors = summary.errors
  io.write(string.format(
    "\nresult %d %d %d %d %d %d %d %d\n",
    summary.requests, errors.status, errors.connect + errors.read + errors.write, errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99), latency.max
  ))
  io.write(string.format("sent %d\n", sent_by_all))
end
