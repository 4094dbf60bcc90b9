/* Reads answers of HTTP/1.1 as far as a client needs that knows what has to come back.
 *
 * Only a head that is complete is looked at. An answer without Content-Length is a wrong one here: the applications
 * that are measured all send it. */
#ifndef BENCHMARKS_ANSWERS_H
#define BENCHMARKS_ANSWERS_H

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct head {
    size_t size, body; /* bytes of the head with its empty line, and what Content-Length says */
    int status, close; /* close: the server says that it will end the connection */
    long worker;       /* what X-Worker says: the pid of the process that answers; 0 if it says nothing */
};

enum reading { INCOMPLETE, COMPLETE, MALFORMED };

static inline int is_field(const char *line, const char *name) { return strncasecmp(line, name, strlen(name)) == 0; }

/* One line of the head; returns 0 if its value is no number where one has to be. */
static inline int read_field(struct head *to, const char *line, int *length_seen) {
    char *end;
    if (is_field(line, "content-length:")) {
        to->body = strtoul(line + 15, &end, 10);
        *length_seen = 1;
        return end > line + 15 && *end == '\r';
    }
    if (is_field(line, "x-worker:")) to->worker = strtol(line + 9, NULL, 10);
    if (is_field(line, "connection:")) to->close = is_field(line + 11 + strspn(line + 11, " "), "close");
    return 1;
}

/* Read the head in `text`, which ends with a zero byte. */
static inline enum reading read_head(struct head *to, const char *text) {
    const char *end = strstr(text, "\r\n\r\n");
    int length_seen = 0;
    if (!end) return INCOMPLETE;
    *to = (struct head){.size = (size_t)(end - text) + 4};
    if (strncmp(text, "HTTP/1.1 ", 9) != 0) return MALFORMED;
    to->status = atoi(text + 9);
    for (const char *line = text; (line = strstr(line, "\r\n")) && line < end; )
        if (!read_field(to, line += 2, &length_seen)) return MALFORMED;
    return length_seen ? COMPLETE : MALFORMED;
}

#endif
