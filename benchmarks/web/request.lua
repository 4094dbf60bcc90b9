-- What wrk sends, and its figures in one line that a program can read.
--
--   wrk ... --script request.lua URL -- KIND METHOD [CONTENT-TYPE FILE]
--
-- KIND is `same`: the request is formatted once, before the first is sent, and no Lua runs for a request or an answer;
-- `close`: the same, each on a connection of its own; or `varied`: the heads of a proxy's clients, all different.

local FIELDS = "Host: 127.0.0.1\r\n"
    .. "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n"
    .. "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    .. "Accept-Encoding: gzip, deflate, br\r\n"
    .. "Accept-Language: en-GB,en;q=0.7\r\n"
local VARIED = "%s /items/%d?page=%d&sort=name HTTP/1.1\r\n" .. FIELDS
    .. "Cookie: session=%08x%08x; theme=dark\r\nX-Request-Id: %08x-%04x\r\nX-Forwarded-For: 10.%d.%d.%d\r\n\r\n"
local number = 0

local function varied()
    number = number + 1
    return string.format(
        VARIED, wrk.method, number % 100000, number % 97, number * 2654435761 % 4294967296, number, number,
        number % 65536, number % 251, number % 241, number % 239
    )
end

function init(arguments)
    local kind = arguments[1]
    wrk.method = arguments[2]
    if kind == "close" then
        wrk.headers["Connection"] = "close"
    elseif kind == "varied" then
        request = varied
    end
    if arguments[4] then
        local file = assert(io.open(arguments[4], "rb"))
        wrk.headers["Content-Type"] = arguments[3]
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
