/* Sends each line of its input to a client, while another thread prints what comes: example HOST PORT RECEIVER. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <relayhub.h>

#define TIMEOUT 10000 /* ms */

/* The thread that receives. It ends after relayhub_shutdown(), once the hub has closed the connection. */
static void *receive(void *argument)
{
    struct relayhub *hub = argument;
    struct relayhub_event event;

    while (relayhub_receive(hub, &event, RELAYHUB_FOREVER) > 0 && event.type != RELAYHUB_CLOSED) {
        if (event.type == RELAYHUB_MESSAGE)
            printf("%" PRIu64 " says %zu bytes\n", event.sender, event.length);
        else if (event.type == RELAYHUB_UNDELIVERED)
            printf("line %" PRIu64 " did not arrive\n", event.number);
    }
    return NULL;
}

static int send_lines(struct relayhub *hub, uint64_t receiver)
{
    char line[1000];
    int result = 0;

    while (result == 0 && fgets(line, sizeof line, stdin))
        result = relayhub_send(hub, &receiver, 1, line, strcspn(line, "\n"), RELAYHUB_FOREVER, NULL);
    return result;
}

int main(int argc, char **argv)
{
    struct relayhub *hub;
    pthread_t receiver;
    char reason[200];

    if (argc != 4)
        return EXIT_FAILURE;
    if (relayhub_connect(&hub, argv[1], argv[2], TIMEOUT, reason, sizeof reason) < 0) {
        fprintf(stderr, "%s\n", reason);
        return EXIT_FAILURE;
    }
    if (relayhub_share(hub) < 0 || pthread_create(&receiver, NULL, receive, hub) != 0)
        return EXIT_FAILURE; /* the end of the program closes the connection */
    int result = send_lines(hub, strtoull(argv[3], NULL, 10));
    if (result < 0)
        fprintf(stderr, "%s\n", relayhub_reason(hub));
    relayhub_shutdown(hub);
    pthread_join(receiver, NULL);
    relayhub_close(hub);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
