-- For wrk, by `cargo xtask bench`: sends BENCH_BODY as JSON by POST when it is
-- set, and prints one line that a program can read.

if os.getenv("BENCH_BODY") then
  wrk.method = "POST"
  wrk.body = os.getenv("BENCH_BODY")
  wrk.headers["Content-Type"] = "application/json"
end
if os.getenv("BENCH_KEY") then
  wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")
end

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
