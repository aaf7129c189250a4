/* The target: server PORT. One process that echoes, swallows or sends, as each client's first byte says. */
#define _GNU_SOURCE
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS = 65536 };

static char buffer[BUFFER];
static unsigned char role[CONNECTIONS]; /* by descriptor; 0: the first byte has not come yet */

static void stop(int number) /* as PID 1 of a container it would otherwise ignore SIGTERM */
{
    (void)number;
    _exit(0);
}

static void accept_all(int poll, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CONNECTIONS) {
            close(fd);
            continue;
        }
        tune(fd);
        role[fd] = 0;
        watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN, fd);
    }
}

/* One read or write a turn, so that streams share the processor; 0 when the connection is over. */
static int serve(int poll, int fd)
{
    if (role[fd] == SOURCE)
        return write(fd, buffer, sizeof buffer) >= 0 || errno == EAGAIN;
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got == 0 && role[fd] == POLITE) {
        struct linger none = {0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    if (!role[fd]) {
        role[fd] = buffer[0];
        if (role[fd] == SOURCE)
            watch(poll, EPOLL_CTL_MOD, fd, EPOLLOUT, fd);
    }
    /* Echoed messages are far smaller than a send buffer, and the client awaits each. */
    int echoes = role[fd] == ECHO || role[fd] == POLITE;
    return !echoes || write(fd, buffer, got) == got;
}

int main(int count, char **words)
{
    if (count != 2) {
        fprintf(stderr, "usage: server PORT\n");
        return 2;
    }
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    int poll = epoll_create1(EPOLL_CLOEXEC), on = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) {
        perror("server");
        return 1;
    }
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.u32;
            if (fd == listener)
                accept_all(poll, listener);
            else if (!serve(poll, fd))
                close(fd);
        }
    }
}
