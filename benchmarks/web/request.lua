-- What wrk sends, and its figures in one line that a program can read.
--
--   wrk ... --script request.lua URL -- METHOD [CONTENT-TYPE FILE]
--
-- The request is formatted once, before the first is sent; no Lua runs for a request or an answer.

function init(arguments)
    wrk.method = arguments[1]
    if arguments[3] then
        local file = assert(io.open(arguments[3], "rb"))
        wrk.headers["Content-Type"] = arguments[2]
        wrk.body = file:read("*a")
        file:close()
    end
end

-- Microseconds, as wrk counts; "status" are the answers of 400 and above.
function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        'FIGURES {"requests": %d, "bytes": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "connect": %d, "read": %d, '
            .. '"write": %d, "timeout": %d, "status": %d}',
        summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.timeout, errors.status
    ))
end
