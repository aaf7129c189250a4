/* A line for each name: the name, then its addresses by getaddrinfo(3), or why there are none. */
#define _GNU_SOURCE /* EAI_NODATA */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **names)
{
    for (int at = 1; at < count; at++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        char text[INET6_ADDRSTRLEN];
        int error = getaddrinfo(names[at], NULL, &hints, &found);

        printf("%s", names[at]);
        if (error)
            printf(" %s", error == EAI_NONAME || error == EAI_NODATA ? "unknown" : gai_strerror(error));
        for (struct addrinfo *each = found; each; each = each->ai_next) {
            const void *address = each->ai_family == AF_INET
                ? (const void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                : (const void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
            printf(" %s", inet_ntop(each->ai_family, address, text, sizeof text));
        }
        printf("\n");
        if (found)
            freeaddrinfo(found);
    }
    return 0;
}
