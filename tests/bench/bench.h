/* What load.c and server.c agree on: a connection's first byte says what the server does with it. */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ECHO = 'e', POLITE = 'p', SINK = 'u', SOURCE = 'd' }; /* polite: an echo that answers FIN with FIN */

/* As large as good bulk programs use, small enough for the second-level cache. */
enum { BUFFER = 256 * 1024, EVENTS = 64 };

static void watch(int poll, int how, int fd, unsigned events, unsigned id)
{
    struct epoll_event event = {.events = events, .data.u32 = id};
    epoll_ctl(poll, how, fd, &event);
}

/* Send small messages at once, and close by RST: neither end nor conntrack then keeps the
 * connection for a minute or two (TIME_WAIT), which would run a connection-rate test out of ports. */
static void tune(int fd)
{
    int on = 1;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

#endif
