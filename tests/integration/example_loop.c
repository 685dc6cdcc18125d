/*
 * Prints what comes, and sends what is typed to the client that sent last: example HOST PORT. Its loop waits with
 * epoll(7), begins before the hub is up, and connects again whenever the connection ends.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <relayhub.h>

#define TIMEOUT 10000 /* ms: for an attempt to connect */

static bool connected, ending;
static uint64_t last_sender; /* 0: nobody has sent anything on this connection */

/* The number of the descriptor stays the same, but each attempt makes another file of it, which is new to the set. */
static void watch(int set, const struct relayhub *hub)
{
    struct epoll_event wanted = {.events = relayhub_pending(hub) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                 .data.fd = relayhub_fd(hub)};

    if (epoll_ctl(set, EPOLL_CTL_MOD, wanted.data.fd, &wanted) < 0)
        epoll_ctl(set, EPOLL_CTL_ADD, wanted.data.fd, &wanted);
}

static void handle(const struct relayhub *hub, const struct relayhub_event *event)
{
    if (event->type == RELAYHUB_CONNECTED) {
        printf("connected, I am %" PRIu64 "\n", event->sender);
        connected = true;
    } else if (event->type == RELAYHUB_MESSAGE) {
        printf("%" PRIu64 " says %zu bytes\n", event->sender, event->length);
        last_sender = event->sender;
    } else if (event->type == RELAYHUB_UNDELIVERED) {
        printf("message %" PRIu64 " did not arrive\n", event->number);
    } else if (event->type == RELAYHUB_CLOSED) {
        printf("%s\n", relayhub_reason(hub));
        connected = false;
        last_sender = 0;
    }
}

/* Takes all that is there. False at the end: after relayhub_shutdown(), or if the hub breaks the protocol. */
static bool receive_all(struct relayhub *hub)
{
    struct relayhub_event event;
    int result;

    while ((result = relayhub_receive(hub, &event, 0)) > 0) {
        handle(hub, &event);
        if (event.type == RELAYHUB_CLOSED && ending)
            return false;
    }
    if (result < 0)
        fprintf(stderr, "%s\n", relayhub_reason(hub));
    return result == 0;
}

static void send_input(struct relayhub *hub, int set)
{
    char text[4096];
    ssize_t length = read(STDIN_FILENO, text, sizeof text);
    struct iovec body = {text, length > 0 ? (size_t)length : 0};

    if (length <= 0) { /* the end: what was sent arrives before RELAYHUB_CLOSED comes */
        epoll_ctl(set, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        relayhub_shutdown(hub);
        ending = true;
    } else if (last_sender == 0) {
        printf("nobody to send to\n");
    } else if (relayhub_try_send(hub, &last_sender, 1, &body, 1, NULL) < 0) {
        printf("not sent: %s\n", relayhub_reason(hub));
    }
}

int main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
    struct relayhub *hub;
    char reason[200];

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (relayhub_open(&hub, argc > 1 ? argv[1] : NULL, argc > 2 ? argv[2] : NULL, TIMEOUT, reason, sizeof reason) < 0) {
        fprintf(stderr, "%s\n", reason);
        return EXIT_FAILURE;
    }
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        return EXIT_FAILURE; /* a file instead of a terminal or pipe, say */
    while (receive_all(hub)) {
        watch(set, hub);
        /* Only relayhub_receive() ends an attempt that takes too long, so it is called now and then. */
        if (epoll_wait(set, &event, 1, connected ? -1 : 1000) > 0 && event.data.fd == STDIN_FILENO)
            send_input(hub, set);
    }
    relayhub_close(hub);
    return ending ? EXIT_SUCCESS : EXIT_FAILURE;
}
