/* The client: load VIA PROXY PORT TARGET PORT TEST CLIENTS SECONDS
 *
 *   VIA   socks5 | http (CONNECT) | direct (PROXY and its PORT are then ignored)
 *   TEST  up | down   bytes over CLIENTS streams
 *         rate        connections: connect, handshake, one byte there and back, close; CLIENTS at a time
 *         fresh       the same, but CLIENTS of them are begun each second, whatever became of those before
 *         rtt         64 bytes there and back, over and over, on each of CLIENTS connections
 *         idle        CLIENTS connections echo one byte, rest until standard input ends, and echo another
 *         drip        CLIENTS connections begin a handshake and go on by one byte a second, until standard
 *                     input ends; whichever is closed begins again
 *
 * The first four work for SECONDS and print one line of JSON: "per_second" (bytes, connections or
 * messages), "total" and "failures" of the whole run, for fresh and rtt also "p50" and "p99" in microseconds.
 * The last two ignore SECONDS and print a line twice, when all are there and at the end: "open" (of idle at its
 * end: whose last echo has not come), "failures" (of drip: how many connections were closed on it). A bulk or
 * rtt stream that breaks ends the program.
 *
 * One epoll process, so that it costs the same two cores as little as it can. Every proxy is spoken to in
 * lock-step: some take one read for one handshake message, so nothing is pipelined.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum state { CLOSED, CONNECTING, GREETED, REQUESTED, ECHOING, SENDING, RECEIVING, RESTING, DRIPPING };
enum test { UP, DOWN, RATE, FRESH, RTT, IDLE, DRIP, TESTS };
static const char *const NAMES[TESTS] = {"up", "down", "rate", "fresh", "rtt", "idle", "drip"};

struct client {
    int fd, have;
    int again; /* of idle: the second echo is awaited */
    int sent;  /* of drip: bytes after the first */
    enum state state;
    double since; /* when the message that is awaited was sent; of fresh: when the connection was begun */
    char in[1024];
};

enum { CLIENTS = 16384, SAMPLES = 1 << 20, MESSAGE = 64, OPENING = 128, STDIN = CLIENTS };
static const double WARM_UP = 0.2;  /* seconds: congestion windows grow, buffers fill */
static const double PATIENCE = 10;  /* seconds: every stream must have begun, every last echo have come */

static struct client clients[CLIENTS];
static char buffer[BUFFER], request[256];
static int request_size;
static struct sockaddr_in first_hop;
static const char *via;
static enum test test;
static int poll_fd, message, told; /* told: standard input has ended */
static unsigned long long begun, done, failed, sampled; /* done: bytes, connections or messages */
static float samples[SAMPLES]; /* microseconds; the last ones, should there be more */

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
    c->have = c->again = c->sent = 0;
    c->since = now();
    if (connect(c->fd, (struct sockaddr *)&first_hop, sizeof first_hop) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(poll_fd, EPOLL_CTL_ADD, c->fd, EPOLLOUT, c - clients);
}

static void end(struct client *c, const char *failure)
{
    if (failure && (test == UP || test == DOWN || test == RTT))
        die("%s: %s", NAMES[test], failure);
    failed += failure != NULL;
    close(c->fd);
    c->state = CLOSED;
    if (test == RATE || (test == DRIP && !told))
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
    if (test != FRESH)
        c->since = now();
    say(c, buffer, message, ECHOING);
}

/* The way to the target is open. */
static void begin(struct client *c)
{
    begun++;
    if (test == UP) {
        char role = SINK;
        say(c, &role, 1, SENDING);
        watch(poll_fd, EPOLL_CTL_MOD, c->fd, EPOLLOUT, c - clients);
    } else if (test == DOWN) {
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
    if (test == DRIP) {
        begun++;
        say(c, is(via, "http") ? "G" : "\x05", 1, DRIPPING);
    } else if (is(via, "socks5"))
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

/* What was sent came back. */
static void echoed(struct client *c)
{
    if (memcmp(c->in, buffer, message)) {
        end(c, "the echo differs");
        return;
    }
    done++;
    if (test == RTT || test == FRESH)
        samples[sampled++ % SAMPLES] = (now() - c->since) * 1e6;
    if (test == RTT)
        echo(c);
    else if (test == IDLE && !c->again)
        c->state = RESTING;
    else
        end(c, NULL);
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
    } else if (c->state == ECHOING && c->have >= message)
        echoed(c);
    else if (c->state == RESTING)
        end(c, "bytes that nobody sent");
    else if (c->state == DRIPPING)
        c->have = 0; /* an error page, and its end is to come */
}

static void turn(struct client *c)
{
    ssize_t moved;
    switch (c->state) {
    case CLOSED:
        return;
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
        die("%s: the stream ended: %s", NAMES[test], moved ? strerror(errno) : "closed by the proxy");
}

/* Handle what is ready; the time before it was. */
static double turn_all(int milliseconds)
{
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(poll_fd, events, EVENTS, milliseconds);
    double at = now();
    for (int i = 0; i < ready; i++) {
        unsigned id = events[i].data.u32;
        if (id != STDIN)
            turn(&clients[id]);
        else if (read(0, buffer + message, 64) <= 0) {
            told = 1;
            epoll_ctl(poll_fd, EPOLL_CTL_DEL, 0, NULL);
        }
    }
    return at;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void tell(double per_second)
{
    printf("{\"per_second\": %.1f, \"total\": %llu, \"failures\": %llu", per_second, done, failed);
    if (test == RTT || test == FRESH) {
        size_t count = sampled < SAMPLES ? sampled : SAMPLES;
        if (!count)
            die("%s: nothing came back", NAMES[test]);
        qsort(samples, count, sizeof *samples, ascending);
        printf(", \"p50\": %.1f, \"p99\": %.1f", samples[count / 2], samples[(size_t)(count * 0.99)]);
    }
    puts("}");
}

/* All at once, for some seconds that begin when all have begun and are warm. */
static void work(int count, double seconds)
{
    double patience = now() + PATIENCE, from = 0, at;
    unsigned long long before = 0;
    int measuring = 0;
    for (int i = 0; i < count; i++)
        start(&clients[i]);
    for (;;) {
        at = turn_all(50);
        if (!from && begun >= (unsigned)count)
            from = at + WARM_UP;
        if (!from && at > patience)
            die("%s: %llu of %d connections began within %.0f s", NAMES[test], begun, count, PATIENCE);
        if (from && !measuring && at >= from) {
            measuring = 1;
            before = done;
            sampled = 0;
            from = at;
        }
        if (measuring && at >= from + seconds)
            break;
    }
    tell((done - before) / (at - from));
}

/* So many new connections a second; those that are not served in time have failed. */
static void pace(int per_second, double seconds)
{
    double from = now(), at = from;
    unsigned long long started = 0, wanted = per_second * seconds;
    while (done + failed < wanted && at < from + seconds + PATIENCE) {
        while (started < wanted && started <= (at - from) * per_second) {
            struct client *c = &clients[started++ % CLIENTS];
            if (c->state != CLOSED)
                die("fresh: %d connections wait", CLIENTS);
            start(c);
        }
        at = turn_all(1);
    }
    failed += started - done - failed;
    tell(done / (at - from));
}

/* One more byte of a handshake that never ends: offered methods (none that anybody has), or a header field. */
static void drip(struct client *c)
{
    static const char endless[] = "GET http://web/ HTTP/1.1\r\nX: ";
    if (c->state != DRIPPING)
        return;
    int http = is(via, "http"), at = ++c->sent;
    char byte = !http ? (at == 1 ? 255 : 0x7f) : at < (int)sizeof endless - 1 ? endless[at] : 'x';
    if (write(c->fd, &byte, 1) != 1)
        end(c, "a byte could not be sent");
}

static void report(int count)
{
    int open = 0;
    for (int i = 0; i < count; i++)
        open += clients[i].state == RESTING || clients[i].state == DRIPPING || clients[i].state == ECHOING;
    printf("{\"open\": %d, \"total\": %llu, \"failures\": %llu}\n", open, done, failed);
    fflush(stdout);
}

/* All are opened, some at a time, and are there until standard input ends. */
static void hold(int count)
{
    int started = 0, ready = 0;
    unsigned long long dripped = 0;
    double from = now(), at;
    watch(poll_fd, EPOLL_CTL_ADD, 0, EPOLLIN, STDIN);
    do {
        while (started < count && started < (long long)(test == DRIP ? begun : done + failed) + OPENING)
            start(&clients[started++]);
        at = turn_all(10);
        for (; test == DRIP && dripped < (at - from) * count; dripped++)
            drip(&clients[dripped % count]);
        if (!ready && (test == DRIP ? begun : done + failed) >= (unsigned)count) {
            ready = 1;
            report(count);
        }
    } while (!told);
    if (test == IDLE) {
        double patience = now() + PATIENCE;
        unsigned long long resting = 0, before = done, lost = failed;
        for (int i = 0; i < count; i++) {
            clients[i].again = 1;
            resting += clients[i].state == RESTING;
            if (clients[i].state == RESTING)
                echo(&clients[i]);
        }
        while (done - before + failed - lost < resting && turn_all(10) < patience)
            ;
        failed = lost + resting - (done - before);
        done -= before;
    }
    report(count);
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

int main(int words, char **word)
{
    struct rlimit files;
    if (words != 9)
        die("usage: load socks5|http|direct PROXY PORT TARGET PORT up|down|rate|fresh|rtt|idle|drip CLIENTS SECONDS");
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    via = word[1];
    while (test < TESTS && !is(NAMES[test], word[6]))
        test++;
    int count = atoi(word[7]), hop = is(via, "direct") ? 4 : 2;
    if (test == TESTS)
        die("%s is no test", word[6]);
    if (count < 1 || count > CLIENTS)
        die("CLIENTS must be 1 to %d", CLIENTS);
    first_hop.sin_family = AF_INET;
    first_hop.sin_port = htons(atoi(word[hop + 1]));
    if (inet_pton(AF_INET, word[hop], &first_hop.sin_addr) != 1)
        die("%s is no IPv4 address", word[hop]);
    prepare(word[4], atoi(word[5]));
    memset(buffer, ECHO, sizeof buffer);
    message = test == RTT ? MESSAGE : 1;
    poll_fd = epoll_create1(0);
    if (test == FRESH)
        pace(count, atof(word[8]));
    else if (test == IDLE || test == DRIP)
        hold(count);
    else
        work(count, atof(word[8]));
    return 0;
}
