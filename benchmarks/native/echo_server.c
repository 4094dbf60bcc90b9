/* The limit: a level-triggered epoll echo server in C, one thread. It is what the kernel leaves to be gained.
 *
 *     echo_server [PORT]        port 0 (the default): the kernel picks; the real one is printed on stderr
 *
 * Per message it makes one epoll_wait (shared by all that are ready), one recv and one send, and nothing else. */
#define _GNU_SOURCE
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { EVENTS = 256, CHUNK = 65536, BACKLOG = 2048, MAX_FD = 65536 };

/* fd -> what the socket had no room for; data is NULL for nearly all of them */
static struct rest {
    char *data;
    size_t from, to;
} rests[MAX_FD];

static char chunk[CHUNK];
static int poller;

static void watch(int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

static int open_listener(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, BACKLOG) != 0)
        die("cannot listen on 127.0.0.1:%u: %s", port, strerror(errno));
    getsockname(fd, (struct sockaddr *)&address, &size);
    fprintf(stderr, "listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    return fd;
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0) return;
        if (fd >= MAX_FD) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

static void drop(int fd) {
    free(rests[fd].data);
    rests[fd] = (struct rest){0};
    close(fd);
}

/* Keep what did not fit and stop reading until it is gone: back-pressure, as any real server has it. */
static void keep(int fd, size_t from, size_t to) {
    char *copy = malloc(to - from);
    if (!copy) die("out of memory");
    memcpy(copy, chunk + from, to - from);
    rests[fd] = (struct rest){copy, 0, to - from};
    watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void on_writable(int fd) {
    struct rest *rest = &rests[fd];
    ssize_t sent = send(fd, rest->data + rest->from, rest->to - rest->from, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) drop(fd);
        return;
    }
    rest->from += (size_t)sent;
    if (rest->from < rest->to) return;
    free(rest->data);
    *rest = (struct rest){0};
    watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void on_readable(int fd) {
    ssize_t got = recv(fd, chunk, CHUNK, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    ssize_t sent = send(fd, chunk, (size_t)got, MSG_NOSIGNAL);
    if (sent == got) return;
    if (sent < 0 && errno != EAGAIN)
        drop(fd);
    else
        keep(fd, sent < 0 ? 0 : (size_t)sent, (size_t)got);
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS];
    end_with_parent();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = open_listener(count > 1 ? (uint16_t)number("PORT", arguments[1], 0) : 0);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener);
            else if (rests[fd].data)
                on_writable(fd);
            else
                on_readable(fd);
        }
    }
}
