-- For wrk, by `cargo xtask bench`: sends BENCH_BODY as JSON by POST when it is
-- set, or the file BENCH_BODY_FILE as BENCH_TYPE, puts the id of one of BENCH_ROWS rows where the path says ROW, or gets the
-- lines of BENCH_PATHS in turns, and prints one line that a program can read.

if os.getenv("BENCH_BODY") then
  wrk.method = "POST"
  wrk.body = os.getenv("BENCH_BODY")
  wrk.headers["Content-Type"] = "application/json"
end
if os.getenv("BENCH_BODY_FILE") then
  local file = assert(io.open(os.getenv("BENCH_BODY_FILE"), "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = os.getenv("BENCH_TYPE")
  file:close()
end
if os.getenv("BENCH_KEY") then
  wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")
end

local rows = tonumber(os.getenv("BENCH_ROWS"))
if rows then
  local requests, next_one = {}, 0
  init = function()
    math.randomseed(os.time())
    -- Made beforehand: formatting costs more than sending.
    for n = 1, 5000 do
      local id = string.format("d%014d", math.random(0, rows - 1))
      requests[n] = wrk.format(nil, (wrk.path:gsub("ROW", id)))
    end
  end
  request = function()
    next_one = next_one % #requests + 1
    return requests[next_one]
  end
end

local paths = os.getenv("BENCH_PATHS")
if paths then
  local requests, next_one = {}, 0
  init = function()
    for path in paths:gmatch("[^\n]+") do
      requests[#requests + 1] = wrk.format("GET", path)
    end
  end
  request = function()
    next_one = next_one % #requests + 1
    return requests[next_one]
  end
end

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
