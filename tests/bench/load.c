/* The client: load VIA PROXY PORT TARGET PORT TEST CLIENTS SECONDS
 *
 *   VIA   socks5 | http (CONNECT) | direct (PROXY and its PORT are then ignored)
 *   TEST  up | down   bytes/s over CLIENTS streams
 *         rate        connections/s: connect, handshake, one byte there and back, close; CLIENTS at a time
 *         rtt         microseconds, the median for a 64-byte message there and back
 *
 * Prints "VALUE FAILURES". Bulk and rtt have no failures: there the first one ends the program.
 * One epoll process, so that it costs the same two cores as little as it can. Every proxy is
 * spoken to in lock-step: some take one read for one handshake message, so nothing is pipelined.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum state { CONNECTING, GREETED, REQUESTED, ECHOING, SENDING, RECEIVING };

struct client {
    int fd, have;
    enum state state;
    double sent; /* when the message that is awaited was sent */
    char in[1024];
};

enum { CLIENTS = 1024, SAMPLES = 1 << 20, MESSAGE = 64 };
static const double WARM_UP = 0.2;  /* seconds: congestion windows grow, buffers fill */
static const double PATIENCE = 10;  /* seconds until every stream must have begun */

static struct client clients[CLIENTS];
static char buffer[BUFFER], request[256];
static int request_size;
static struct sockaddr_in first_hop;
static const char *via, *test;
static int poll_fd, begun, message;
static unsigned long long done, failed; /* done: bytes, connections or messages */
static float samples[SAMPLES];

static void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int is(const char *word, const char *other) { return !strcmp(word, other); }

static void start(struct client *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    tune(c->fd);
    c->state = CONNECTING;
    c->have = 0;
    if (connect(c->fd, (struct sockaddr *)&first_hop, sizeof first_hop) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(poll_fd, EPOLL_CTL_ADD, c->fd, EPOLLOUT, c - clients);
}

static void end(struct client *c, const char *failure)
{
    if (failure && !is(test, "rate"))
        die("%s: %s", test, failure);
    failed += failure != NULL;
    close(c->fd);
    start(c);
}

static void say(struct client *c, const char *data, int size, enum state next)
{
    c->state = next;
    c->have = 0;
    if (write(c->fd, data, size) != size)
        end(c, "a small message could not be sent");
}

static void echo(struct client *c)
{
    c->sent = now();
    say(c, buffer, message, ECHOING);
}

/* The way to the target is open. */
static void begin(struct client *c)
{
    begun++;
    if (is(test, "up")) {
        char role = SINK;
        say(c, &role, 1, SENDING);
        watch(poll_fd, EPOLL_CTL_MOD, c->fd, EPOLLOUT, c - clients);
    } else if (is(test, "down")) {
        char role = SOURCE;
        say(c, &role, 1, RECEIVING);
    } else
        echo(c);
}

static void connected(struct client *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        end(c, strerror(error));
        return;
    }
    watch(poll_fd, EPOLL_CTL_MOD, c->fd, EPOLLIN, c - clients);
    if (is(via, "socks5"))
        say(c, "\x05\x01\x00", 3, GREETED); /* RFC 1928 §3: one method, no authentication */
    else if (is(via, "http"))
        say(c, request, request_size, REQUESTED);
    else
        begin(c);
}

/* Whether the proxy's reply is whole: 1, 0 for not yet, -1 for a refusal. */
static int replied(const struct client *c)
{
    const unsigned char *in = (const unsigned char *)c->in;
    if (is(via, "http")) {
        if (!memmem(in, c->have, "\r\n\r\n", 4))
            return 0;
        return memcmp(in + 8, " 200", 4) ? -1 : 1;
    }
    if (c->have >= 2 && in[1])
        return -1;
    if (c->have < 5)
        return 0;
    /* RFC 1928 §6: VER REP RSV ATYP BND.ADDR BND.PORT */
    return c->have >= 6 + (in[3] == 1 ? 4 : in[3] == 4 ? 16 : 1 + in[4]);
}

static void readable(struct client *c)
{
    ssize_t got = read(c->fd, c->in + c->have, sizeof c->in - c->have);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end(c, got ? strerror(errno) : "closed by the proxy");
        return;
    }
    c->have += got;
    if (c->state == GREETED && c->have >= 2) {
        if (memcmp(c->in, "\x05\x00", 2))
            end(c, "the proxy wants authentication");
        else
            say(c, request, request_size, REQUESTED);
    } else if (c->state == REQUESTED) {
        int reply = replied(c);
        if (reply < 0)
            end(c, "refused by the proxy");
        else if (reply)
            begin(c);
    } else if (c->state == ECHOING && c->have >= message) {
        if (is(test, "rtt")) {
            samples[done % SAMPLES] = (now() - c->sent) * 1e6;
            done++;
            echo(c);
        } else {
            done++;
            end(c, NULL);
        }
    }
}

static void turn(struct client *c)
{
    ssize_t moved;
    switch (c->state) {
    case CONNECTING:
        connected(c);
        return;
    case SENDING:
        moved = write(c->fd, buffer, sizeof buffer);
        break;
    case RECEIVING:
        moved = read(c->fd, buffer, sizeof buffer);
        break;
    default:
        readable(c);
        return;
    }
    if (moved > 0)
        done += moved;
    else if (moved == 0 || errno != EAGAIN)
        die("%s: the stream ended: %s", test, moved ? strerror(errno) : "closed by the proxy");
}

static void prepare(const char *target, int port)
{
    if (is(via, "http")) {
        const char *format = "CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n";
        request_size = snprintf(request, sizeof request, format, target, port, target, port);
        return;
    }
    /* RFC 1928 §4: version 5, CONNECT, reserved, IPv4 */
    in_port_t number = htons(port);
    memcpy(request, "\x05\x01\x00\x01", 4);
    inet_pton(AF_INET, target, request + 4);
    memcpy(request + 8, &number, 2);
    request_size = 10;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* What was done in the window, per second; for rtt the median of its samples. */
static double measure(int count, double seconds)
{
    double patience = now() + PATIENCE, from = 0, at;
    unsigned long long before = 0;
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll_fd, events, EVENTS, 50);
        at = now();
        if (!from && begun >= count)
            from = at + WARM_UP;
        if (!from && at > patience)
            die("%s: %d of %d connections began within %.0f s", test, begun, count, PATIENCE);
        if (from && !before && at >= from) {
            before = done ? done : 1; /* one byte more or less */
            failed = 0;
            from = at;
        }
        if (before && at >= from + seconds)
            break;
        for (int i = 0; i < ready; i++)
            turn(&clients[events[i].data.u32]);
    }
    if (!is(test, "rtt"))
        return (done - before) / (at - from);
    if (done <= before || done > SAMPLES)
        die("rtt: %llu samples", done - before);
    qsort(samples + before, done - before, sizeof *samples, ascending);
    return samples[(before + done) / 2];
}

int main(int words, char **word)
{
    if (words != 9)
        die("usage: load socks5|http|direct PROXY PORT TARGET PORT up|down|rate|rtt CLIENTS SECONDS");
    signal(SIGPIPE, SIG_IGN);
    via = word[1];
    test = word[6];
    int count = atoi(word[7]), hop = is(via, "direct") ? 4 : 2;
    if (count < 1 || count > CLIENTS)
        die("CLIENTS must be 1 to %d", CLIENTS);
    first_hop.sin_family = AF_INET;
    first_hop.sin_port = htons(atoi(word[hop + 1]));
    if (inet_pton(AF_INET, word[hop], &first_hop.sin_addr) != 1)
        die("%s is no IPv4 address", word[hop]);
    prepare(word[4], atoi(word[5]));
    memset(buffer, ECHO, sizeof buffer);
    message = is(test, "rtt") ? MESSAGE : 1;
    poll_fd = epoll_create1(0);
    for (int i = 0; i < count; i++)
        start(&clients[i]);
    double value = measure(count, atof(word[8]));
    printf("%.1f %llu\n", value, failed);
    return 0;
}
