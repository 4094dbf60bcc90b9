/* The load generator: one thread, epoll, any number of connections; every byte that comes back is compared.
 *
 *     loadgen echo    --port P [--connections 64] [--bytes 64] [--warmup 0.5] [--seconds 3]
 *     loadgen connect --port P [--connections 64] [--bytes 64] ...     a new connection for every exchange (0 bytes: none)
 *     loadgen hold    --port P [--connections 10000] [--bytes 64] [--seconds 60]
 *     loadgen websocket --port P [--connections 100] [--bytes 64] ...  `echo` in masked binary frames (RFC 6455), path /
 *
 * echo     every connection sends a message, waits for all of it to come back, and sends the next.
 * connect  connect, one exchange, half-close, wait for the server's close, and again; counts whole cycles.
 * hold     opens the connections (at most 128 at once are not served yet), makes one exchange on each, prints a line, and
 *          holds them idle until stdin ends or --seconds have passed; then prints how many the server dropped.
 *          (stdin that is no pipe, socket or terminal, such as /dev/null, ends at once.)
 * websocket  no extension is offered, so nothing is compressed; the answer has to be one frame; a ping is answered.
 *
 *   --send TEXT --expect TEXT   a fixed request and its fixed reply, instead of bytes that are echoed
 *   --sources K                 spread the connections over the client addresses 127.0.0.1 .. 127.0.0.K (default 16):
 *                               one address has 28,000 ports by default, and each rests a minute after its use
 *
 * Results are one line of JSON on stdout. Any lost, wrong, or missing byte ends the program with code 1 and one line on
 * stderr; so does a server that says nothing for ten seconds. */
#define _GNU_SOURCE
#include "common.h"
#include "histogram.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { EVENTS = 256, PATTERN = 1 << 20, WINDOW = 128, SILENCE_MS = 10000, MAX_BYTES = 1 << 20 };

enum mode { ECHO, CONNECT, HOLD, WEBSOCKET };
enum phase { CONNECTING, UPGRADING, EXCHANGING, CLOSING, IDLE };
enum { HEAD_ROOM = 4096, FRAME_ROOM = 14 }; /* bytes: the longest answer to an upgrade; header and mask of a frame */

struct connection {
    int fd;
    enum phase phase;
    size_t offset, sent, got; /* offset: where in the pattern this round's message starts */
    uint64_t began;
    uint32_t watched;
    unsigned char *request, *reply; /* `websocket`: the frame of this round, and the one that has to come back */
};

static struct {
    enum mode mode;
    uint16_t port;
    unsigned connections, sources;
    size_t request_size, reply_size, payload; /* payload: without the framing of `websocket` */
    const char *request, *reply; /* NULL: a slice of the pattern, and the same slice back */
    double warmup, seconds;
} options = {.sources = 16, .request_size = 64, .reply_size = 64, .warmup = 0.5};

static unsigned char pattern[PATTERN + MAX_BYTES], incoming[MAX_BYTES];
static struct histogram durations;
static struct connection *connections;
static unsigned opened, dropped, served; /* served: connections of `hold` that had their exchange, or were upgraded */
static uint64_t round_number, rounds, measure_from, measure_until; /* rounds: completed ones, warm-up included */
static int poller;

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
    c->watched = events;
}

static void watch_also_for_room(struct connection *c, int wanted) {
    uint32_t events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
    if (c->watched != events) watch(c, EPOLL_CTL_MOD, events);
}

static const unsigned char *request_of(const struct connection *c) {
    if (c->request) return c->request;
    return options.request ? (const unsigned char *)options.request : pattern + c->offset;
}

static const unsigned char *reply_of(const struct connection *c) {
    if (c->reply) return c->reply;
    return options.reply ? (const unsigned char *)options.reply : pattern + c->offset;
}

static void start_connecting(struct connection *c) {
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(opened % options.sources));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *c = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .began = now_ns()};
    if (c->fd < 0) die("socket: %s (connection %u)", strerror(errno), opened);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* the port is chosen at connect(2): bind(2) alone would want one that is free for all destinations */
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) != 0) die("bind: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        die("cannot connect to port %u: %s", options.port, strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
    opened++;
}

static void send_rest(struct connection *c) {
    ssize_t sent = send(c->fd, request_of(c) + c->sent, options.request_size - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
    if (sent > 0) c->sent += (size_t)sent;
    watch_also_for_room(c, c->sent < options.request_size);
}

/* Header of a final binary frame of `size` bytes (RFC 6455, 5.2); returns its length. */
static size_t frame_header(unsigned char *to, size_t size, int masked) {
    unsigned char bit = masked ? 0x80 : 0;
    to[0] = 0x82;
    if (size < 126) return to[1] = (unsigned char)(bit | size), 2;
    to[1] = bit | (size < 65536 ? 126 : 127);
    size_t width = size < 65536 ? 2 : 8;
    for (size_t i = 0; i < width; i++) to[2 + i] = (unsigned char)(size >> 8 * (width - 1 - i));
    return 2 + width;
}

/* The frame to send and the one to expect; every round has a mask of its own, as section 5.3 wants it. */
static void build_frames(struct connection *c) {
    uint32_t mask = (uint32_t)(round_number * 2654435761u) | 1;
    unsigned char *to = c->request + frame_header(c->request, options.payload, 1);
    memcpy(to, &mask, sizeof mask);
    for (size_t i = 0; i < options.payload; i++) to[4 + i] = pattern[c->offset + i] ^ to[i & 3];
    memcpy(c->reply + frame_header(c->reply, options.payload, 0), pattern + c->offset, options.payload);
}

/* Every round of every connection has bytes of its own, so that a mixed-up or repeated reply is noticed. */
static void start_round(struct connection *c, uint64_t now) {
    c->offset = (size_t)(round_number++ * 61) & (PATTERN - 1);
    c->sent = c->got = 0;
    if (options.mode != CONNECT) c->began = now;
    if (options.mode == WEBSOCKET) build_frames(c);
    c->phase = EXCHANGING;
    send_rest(c);
}

static void half_close(struct connection *c) {
    c->phase = CLOSING;
    watch_also_for_room(c, 0);
    if (shutdown(c->fd, SHUT_WR) != 0) die("shutdown: %s", strerror(errno));
}

static void count(const struct connection *c, uint64_t now) {
    rounds++;
    if (now >= measure_from && now < measure_until) record(&durations, now - c->began);
}

/* The key is the example of RFC 6455, section 1.3, which also tells the answer: no SHA-1 is needed here. */
static void ask_for_upgrade(struct connection *c) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    char text[512];
    int size = snprintf(text, sizeof text, request, options.port);
    c->request = malloc(options.payload + FRAME_ROOM);
    c->reply = malloc(options.payload + FRAME_ROOM + HEAD_ROOM);
    if (!c->request || !c->reply) die("no memory for connection %u", opened);
    if (send(c->fd, text, (size_t)size, MSG_NOSIGNAL) != size) die("send: %s", strerror(errno));
    c->phase = UPGRADING;
    watch_also_for_room(c, 0);
}

static void on_upgrade(struct connection *c) {
    ssize_t got = recv(c->fd, c->reply + c->got, HEAD_ROOM - 1 - c->got, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) die("no answer to the upgrade: %s", got < 0 ? strerror(errno) : "the server closed the connection");
    c->got += (size_t)got;
    c->reply[c->got] = 0;
    const char *head = (const char *)c->reply, *end = strstr(head, "\r\n\r\n");
    if (!end && c->got == HEAD_ROOM - 1) die("the answer to the upgrade is longer than %d bytes", HEAD_ROOM);
    if (!end) return;
    if (strncmp(head, "HTTP/1.1 101", 12) || !strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        die("the upgrade was refused: %.*s", (int)strcspn(head, "\r"), head);
    if (end[4]) die("the server talks before it is asked");
    served++;
    start_round(c, now_ns());
}

static void on_connected(struct connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) die("cannot connect to port %u: %s", options.port, strerror(error));
    if (options.mode == WEBSOCKET)
        ask_for_upgrade(c);
    else if (options.request_size)
        start_round(c, c->began);
    else
        half_close(c);
}

static void on_reply_complete(struct connection *c, uint64_t now) {
    if (options.mode == ECHO || options.mode == WEBSOCKET) {
        count(c, now);
        start_round(c, now);
    } else if (options.mode == CONNECT) {
        half_close(c);
    } else {
        c->phase = IDLE;
        served++;
    }
}

/* A ping (RFC 6455, 5.5.2) may come between two answers; a server sends one after 20 s or so. */
static size_t answer_ping(struct connection *c, size_t got) {
    size_t size = 2 + (incoming[1] & 0x7fu);
    unsigned char pong[2 + 4 + 125] = {0x8a, 0x80 | incoming[1]}; /* a mask of zeros leaves the bytes as they are */
    if (size > 2 + 125 || got < size || c->sent < options.request_size) die("a ping that cannot be answered");
    memcpy(pong + 6, incoming + 2, size - 2);
    if (send(c->fd, pong, size + 4, MSG_NOSIGNAL) != (ssize_t)size + 4) die("send: %s", strerror(errno));
    return size;
}

static void on_incoming(struct connection *c) {
    ssize_t got = recv(c->fd, incoming, sizeof incoming, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) die("recv: %s", strerror(errno));
    if (got == 0) die("the server closed a connection in the middle of a round (%zu of %zu bytes)", c->got, options.reply_size);
    size_t skipped = options.mode == WEBSOCKET && !c->got && incoming[0] == 0x89 ? answer_ping(c, (size_t)got) : 0;
    got -= (ssize_t)skipped;
    if (c->got + (size_t)got > options.reply_size) die("the server sent more than it was sent");
    if (memcmp(incoming + skipped, reply_of(c) + c->got, (size_t)got) != 0) die("a wrong byte came back");
    c->got += (size_t)got;
    if (c->got == options.reply_size && c->sent == options.request_size) on_reply_complete(c, now_ns());
}

static void on_closing(struct connection *c) {
    ssize_t got = recv(c->fd, incoming, sizeof incoming, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got != 0) die("recv while closing: %s", got < 0 ? strerror(errno) : "bytes nobody asked for");
    close(c->fd);
    count(c, now_ns());
    start_connecting(c);
}

/* A connection that is meant to be idle has something to say: the server dropped it, or talks unasked. */
static void on_idle(struct connection *c) {
    ssize_t got = recv(c->fd, incoming, sizeof incoming, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0) die("an idle connection received bytes nobody asked for");
    close(c->fd);
    dropped++;
}

static void handle(struct connection *c, uint32_t events) {
    if (c->phase == CONNECTING)
        on_connected(c);
    else if (c->phase == UPGRADING)
        on_upgrade(c);
    else if (c->phase == CLOSING)
        on_closing(c);
    else if (c->phase == IDLE)
        on_idle(c);
    else {
        if (events & EPOLLOUT && c->sent < options.request_size) send_rest(c);
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_incoming(c);
    }
}

/* Serve what is ready; returns how many that were. Waits at most `timeout_ms`. */
static int turn(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poller, events, EVENTS, timeout_ms);
    if (ready < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < ready; i++) handle(events[i].data.ptr, events[i].events);
    return ready;
}

static double processor_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* `echo`, `connect` and `websocket`: everything is in flight all the time until the time is over. */
static void run_rounds(void) {
    for (unsigned i = 0; i < options.connections; i++) start_connecting(&connections[i]);
    uint64_t now = now_ns();
    measure_from = now + (uint64_t)(options.warmup * 1e9);
    measure_until = measure_from + (uint64_t)(options.seconds * 1e9);
    double used = -1;
    for (; now < measure_until; now = now_ns()) {
        if (used < 0 && now >= measure_from) used = processor_seconds();
        if (turn(SILENCE_MS) == 0) die("the server has said nothing for %d s", SILENCE_MS / 1000);
    }
    used = processor_seconds() - used;
    if (options.mode == WEBSOCKET && served < options.connections) die("%u of %u connections were upgraded", served, options.connections);
    printf("{\"connections\": %u, \"bytes\": %zu, \"seconds\": %.3f, \"rounds\": %llu, \"count\": %llu, \"per_second\": %.1f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"busy\": %.3f}\n",
           options.connections, options.payload, options.seconds, (unsigned long long)rounds,
           (unsigned long long)durations.total,
           (double)durations.total / options.seconds, (double)quantile(&durations, 0.50) / 1e3,
           (double)quantile(&durations, 0.99) / 1e3, (double)durations.largest / 1e3, used / options.seconds);
}

/* `hold`: a server's accept queue is never asked to take more than WINDOW connections. */
static void run_hold(void) {
    uint64_t began = now_ns();
    while (served < options.connections) {
        while (opened < options.connections && opened - served < WINDOW) start_connecting(&connections[opened]);
        if (turn(SILENCE_MS) == 0) die("%u of %u connections open, and then nothing for %d s", served, options.connections, SILENCE_MS / 1000);
    }
    printf("{\"open\": %u, \"seconds\": %.3f}\n", served, (double)(now_ns() - began) / 1e9);
    fflush(stdout);
    struct pollfd watched[] = {{.fd = poller, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    uint64_t until = now_ns() + (uint64_t)(options.seconds * 1e9), now;
    while (!watched[1].revents && (now = now_ns()) < until)
        if (poll(watched, 2, (int)((until - now) / 1000000) + 1) > 0 && watched[0].revents) turn(0);
    printf("{\"dropped\": %u}\n", dropped);
}

static void read_option(const char *name, const char *value) {
    if (!strcmp(name, "--port")) options.port = (uint16_t)number(name, value, 1);
    else if (!strcmp(name, "--connections")) options.connections = (unsigned)number(name, value, 1);
    else if (!strcmp(name, "--bytes")) options.request_size = options.reply_size = (size_t)number(name, value, 0);
    else if (!strcmp(name, "--sources")) options.sources = (unsigned)number(name, value, 1);
    else if (!strcmp(name, "--warmup")) options.warmup = number(name, value, 0);
    else if (!strcmp(name, "--seconds")) options.seconds = number(name, value, 0.001);
    else if (!strcmp(name, "--send") && value) options.request_size = strlen(options.request = value);
    else if (!strcmp(name, "--expect") && value) options.reply_size = strlen(options.reply = value);
    else die("unknown option %s", name);
}

static void read_options(int count, char **arguments) {
    const char *modes[] = {[ECHO] = "echo", [CONNECT] = "connect", [HOLD] = "hold", [WEBSOCKET] = "websocket"};
    int known = 0;
    for (enum mode m = ECHO; m <= WEBSOCKET && count > 1; m++)
        if (!strcmp(arguments[1], modes[m])) options.mode = m, known = 1;
    if (!known) die("usage: loadgen echo|connect|hold|websocket --port P [options]; see the head of loadgen.c");
    options.connections = options.mode == HOLD ? 10000 : options.mode == WEBSOCKET ? 100 : 64;
    options.seconds = options.mode == HOLD ? 60 : 3;
    for (int i = 2; i < count; i += 2) read_option(arguments[i], arguments[i + 1]); /* argv ends with a NULL */
    if (!options.port) die("--port is missing");
    if (!options.request != !options.reply) die("--send and --expect go together");
    if (options.request_size > MAX_BYTES || options.reply_size > MAX_BYTES) die("a message has at most %d bytes", MAX_BYTES);
    if (!options.request_size != !options.reply_size) die("--send and --expect must both be empty, or neither");
    if (!options.request_size && options.mode != CONNECT) die("an exchange needs at least one byte");
    options.payload = options.request_size;
    if (options.mode != WEBSOCKET) return;
    if (options.request) die("--send and --expect are not for websocket");
    unsigned char header[FRAME_ROOM];
    options.request_size += frame_header(header, options.payload, 1) + 4; /* the mask */
    options.reply_size += frame_header(header, options.payload, 0);
    if (options.reply_size > MAX_BYTES) die("a frame has at most %d bytes", MAX_BYTES);
}

static void fill_pattern(void) {
    uint32_t state = 2463534242u; /* xorshift: any bytes will do that differ from their neighbours */
    for (size_t i = 0; i < sizeof pattern; i++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        pattern[i] = (unsigned char)state;
    }
}

int main(int count, char **arguments) {
    end_with_parent();
    read_options(count, arguments);
    fill_pattern();
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(options.connections, sizeof *connections);
    if (poller < 0 || !connections) die("cannot start: %s", strerror(errno));
    if (options.mode == HOLD)
        run_hold();
    else
        run_rounds();
    return 0;
}
