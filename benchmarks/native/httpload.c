/* An HTTP/1.1 client that goes on when requests fail, and tells what failed, how, and when: one thread, epoll.
 *
 *     httpload --port P --request TEXT [--expect BODY] [--connections 16] [--close 1] [--pause 0] [--timeout 5]
 *              [--warmup 0.5] [--seconds 3] [--sources 16]
 *
 * Each connection sends the request, waits for the whole answer, and sends it again: on the same connection, or, with
 * --close 1, on a new one (the request should say so too). An answer has to have status 200 and the body expected (not
 * given: any). A request begins with its connect(2) if it is the first of its connection, with its send(2) if not, and
 * ends with the last byte of its answer; what waits in an accept queue is in it. Durations are those that were seen:
 * none is added for requests that might have been sent meanwhile. A request that waits when the run ends counts with the
 * time it has waited, if that is more than the median.
 *
 * A request fails: refused (nobody listens), reset, closed (an orderly end before a byte of the answer came), cut (in
 * the middle of it), wrong (another answer), timeout. A request that crosses the server's close of an idle connection
 * is a failure too: the server may say `Connection: close` in its last answer. After a failure the connection pauses
 * for 10 ms. Failures count from the start, all else after the warm-up.
 *
 * Answers may tell their process in X-Worker. When a new one is heard of, a line "worker PID TIME" is written at once.
 * The last line is JSON. Times are seconds of CLOCK_MONOTONIC. SIGTERM ends the run early, with its figures. */
#define _GNU_SOURCE
#include "answers.h"
#include "crew.h"
#include "histogram.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { EVENTS = 256, ROOM = 65536, KEPT = 10000, TURN_MS = 50, WAIT_MS = 2 };
static const uint64_t REST_NS = 10000000; /* after a failure */

enum phase { RESTING, CONNECTING, EXCHANGING };
enum kind { REFUSED, RESET, CLOSED, CUT, WRONG, TIMEOUT, KINDS };
static const char *const kinds[] = {"refused", "reset", "closed", "cut", "wrong", "timeout"};

struct connection {
    int fd;
    enum phase phase;
    uint64_t began, until; /* until: the end of a rest */
    size_t got;
    char *answer; /* ROOM bytes and a zero */
};

struct failure {
    enum kind kind;
    uint64_t began, ended;
};

static struct {
    uint16_t port;
    unsigned connections, sources;
    const char *request, *expect;
    size_t request_size, expect_size;
    double warmup, seconds, pause, timeout;
    int close;
} options = {.connections = 16, .sources = 16, .warmup = 0.5, .seconds = 3, .timeout = 5};

static struct connection *connections;
static struct histogram durations;
static struct crew crew;
static struct failure failures[KEPT];
static uint64_t failed[KINDS], failed_in_all, answers, reopened, opened, measure_from, measure_until;
static unsigned resting;
static int poller;
static volatile sig_atomic_t stopping;

static void start_connecting(struct connection *c);

static void rest(struct connection *c, uint64_t until) {
    c->phase = RESTING;
    c->until = until;
    resting++;
}

static void hang_up(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void fail(struct connection *c, enum kind kind) {
    uint64_t now = now_ns();
    if (failed_in_all < KEPT) failures[failed_in_all] = (struct failure){kind, c->began, now};
    failed[kind]++;
    failed_in_all++;
    hang_up(c);
    rest(c, now + REST_NS);
}

/* What an error of a socket means for the request on it; errors that are ours end the program. */
static void fail_by_errno(struct connection *c, const char *call, int error) {
    if (error == ECONNREFUSED)
        fail(c, REFUSED);
    else if (error == ECONNRESET || error == EPIPE || error == ECONNABORTED)
        fail(c, RESET);
    else if (error == ETIMEDOUT)
        fail(c, TIMEOUT);
    else
        die("%s: %s", call, strerror(error));
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

static void start_connecting(struct connection *c) {
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(opened++ % options.sources));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* the port is chosen at connect(2): bind(2) alone would want one that is free for all destinations */
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0) die("bind: %s", strerror(errno));
    c->began = now_ns();
    c->phase = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        fail_by_errno(c, "connect", errno);
    else
        watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask(struct connection *c) {
    c->phase = EXCHANGING;
    c->got = 0;
    ssize_t sent = send(c->fd, options.request, options.request_size, MSG_NOSIGNAL);
    if (sent < 0)
        fail_by_errno(c, "send", errno);
    else if ((size_t)sent < options.request_size)
        die("a request of %zu bytes does not fit into a socket", options.request_size);
}

static void on_connected(struct connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        fail_by_errno(c, "connect", error);
        return;
    }
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    ask(c);
}

/* The answer is complete and right: count it, and send the next request. */
static void on_answer(struct connection *c, const struct head *head) {
    uint64_t now = now_ns();
    answers++;
    if (now >= measure_from && now < measure_until) record(&durations, now - c->began);
    if (head->worker) heard_of(&crew, head->worker, now);
    if (!options.close && !head->close) {
        c->began = now;
        ask(c);
        return;
    }
    reopened += !options.close;
    hang_up(c);
    if (options.pause > 0)
        rest(c, now + (uint64_t)(options.pause * 1e9));
    else
        start_connecting(c);
}

static void look_at_answer(struct connection *c) {
    struct head head;
    enum reading found = read_head(&head, c->answer);
    if (found == INCOMPLETE && c->got < ROOM) return;
    if (found != COMPLETE || head.status != 200 || head.size + head.body > ROOM ||
        (options.expect && head.body != options.expect_size) || c->got > head.size + head.body)
        fail(c, WRONG);
    else if (c->got < head.size + head.body)
        return;
    else if (options.expect && memcmp(c->answer + head.size, options.expect, options.expect_size) != 0)
        fail(c, WRONG);
    else
        on_answer(c, &head);
}

static void on_incoming(struct connection *c) {
    ssize_t got = recv(c->fd, c->answer + c->got, ROOM - c->got, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) {
        fail_by_errno(c, "recv", errno);
    } else if (got == 0) {
        fail(c, c->got ? CUT : CLOSED);
    } else {
        c->got += (size_t)got;
        c->answer[c->got] = 0;
        look_at_answer(c);
    }
}

/* Who has rested long enough goes on; who has waited too long for an answer has failed. */
static void look_at_clock(uint64_t now) {
    uint64_t patience = (uint64_t)(options.timeout * 1e9);
    for (struct connection *c = connections; c < connections + options.connections; c++) {
        if (c->phase == RESTING && now >= c->until) {
            resting--;
            start_connecting(c);
        } else if (c->phase != RESTING && now > c->began && now - c->began > patience) {
            fail(c, TIMEOUT);
        }
    }
}

static void turn(void) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, resting ? WAIT_MS : TURN_MS);
    if (ready < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->phase == CONNECTING)
            on_connected(c);
        else if (c->phase == EXCHANGING)
            on_incoming(c);
    }
}

static double processor_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Returns the processor seconds used since the warm-up was over. */
static double run(void) {
    uint64_t now = now_ns(), looked = 0;
    measure_from = now + (uint64_t)(options.warmup * 1e9);
    measure_until = measure_from + (uint64_t)(options.seconds * 1e9);
    double used = processor_seconds();
    for (unsigned i = 0; i < options.connections; i++) start_connecting(&connections[i]);
    for (int warm = 0; now < measure_until && !stopping; now = now_ns()) {
        if (!warm && now >= measure_from) {
            warm = 1;
            used = processor_seconds();
            crew.window = now / WINDOW_NS + 1; /* from the next whole one */
        }
        turn();
        if (now - looked >= (uint64_t)WAIT_MS * 1000000) look_at_clock(looked = now);
        if (crew.window <= now / WINDOW_NS) turn_window(&crew, now);
    }
    if (now < measure_until) measure_until = now;
    return processor_seconds() - used;
}

static double microseconds(double share) { return (double)quantile(&durations, share) / 1e3; }

/* Who starves when the run ends has waited at least so long. Without these a server that lets most requests wait would
 * show the durations of the few others. What has waited for less than half of the answers took is left out. */
static uint64_t record_waiting(void) {
    uint64_t median = quantile(&durations, 0.5), waiting = 0;
    for (struct connection *c = connections; c < connections + options.connections; c++) {
        uint64_t age = c->phase == RESTING || c->began > measure_until ? 0 : measure_until - c->began;
        if (age > median) record(&durations, age), waiting++;
    }
    return waiting;
}

static void tell(double used) {
    double seconds = measure_until > measure_from ? (double)(measure_until - measure_from) / 1e9 : 1e-9;
    uint64_t measured = durations.total, waiting = record_waiting();
    printf("{\"seconds\": %.3f, \"answers\": %llu, \"reopened\": %llu, \"busy\": %.3f, \"until\": %.6f, ", seconds,
           (unsigned long long)answers, (unsigned long long)reopened, used / seconds, (double)measure_until / 1e9);
    printf("\"per_second\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, ",
           (double)measured / seconds, microseconds(0.5), microseconds(0.99), microseconds(0.999),
           (double)durations.largest / 1e3);
    printf("\"waiting\": %llu, \"fewest\": %u, \"most\": %u, \"failed\": {", (unsigned long long)waiting, crew.fewest, crew.most);
    for (int i = 0; i < KINDS; i++)
        printf("%s\"%s\": %llu", i ? ", " : "", kinds[i], (unsigned long long)failed[i]);
    printf("}, \"failures\": [");
    for (uint64_t i = 0; i < failed_in_all && i < KEPT; i++)
        printf("%s[\"%s\", %.6f, %.6f]", i ? ", " : "", kinds[failures[i].kind], (double)failures[i].began / 1e9,
               (double)failures[i].ended / 1e9);
    printf("], \"workers\": [");
    for (unsigned i = 0; i < crew.count; i++)
        printf("%s[%ld, %.6f, %.6f, %llu]", i ? ", " : "", crew.members[i].pid, (double)crew.members[i].first / 1e9,
               (double)crew.members[i].last / 1e9, (unsigned long long)crew.members[i].answers);
    printf("]}\n");
}

static void read_option(const char *name, const char *value) {
    if (!strcmp(name, "--port")) options.port = (uint16_t)number(name, value, 1);
    else if (!strcmp(name, "--connections")) options.connections = (unsigned)number(name, value, 1);
    else if (!strcmp(name, "--sources")) options.sources = (unsigned)number(name, value, 1);
    else if (!strcmp(name, "--close")) options.close = (int)number(name, value, 0);
    else if (!strcmp(name, "--pause")) options.pause = number(name, value, 0);
    else if (!strcmp(name, "--timeout")) options.timeout = number(name, value, 0.001);
    else if (!strcmp(name, "--warmup")) options.warmup = number(name, value, 0);
    else if (!strcmp(name, "--seconds")) options.seconds = number(name, value, 0.001);
    else if (!strcmp(name, "--request") && value) options.request_size = strlen(options.request = value);
    else if (!strcmp(name, "--expect") && value) options.expect_size = strlen(options.expect = value);
    else die("unknown option %s", name);
}

static void prepare(void) {
    if (!options.port || !options.request) die("--port or --request is missing; see the head of httpload.c");
    if (options.pause > 0 && !options.close) die("--pause is for --close 1");
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(options.connections, sizeof *connections);
    if (poller < 0 || !connections) die("cannot start: %s", strerror(errno));
    for (unsigned i = 0; i < options.connections; i++)
        if (!(connections[i].answer = malloc(ROOM + 1))) die("no memory for connection %u", i);
}

static void stop(int number) {
    (void)number;
    stopping = 1;
}

int main(int count, char **arguments) {
    end_with_parent();
    signal(SIGTERM, stop);
    for (int i = 1; i < count; i += 2) read_option(arguments[i], arguments[i + 1]); /* argv ends with a NULL */
    prepare();
    tell(run());
    return 0;
}
