/* Says hello to every other client, then prints what comes until nothing does for a second. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <relayhub.h>

#define TIMEOUT 10000 /* ms */

static int fail(struct relayhub *hub)
{
    fprintf(stderr, "%s\n", relayhub_reason(hub));
    relayhub_close(hub);
    return EXIT_FAILURE;
}

/* A message has at most 255 receivers; the list may be longer. */
static int greet(struct relayhub *hub, const uint64_t *ids, size_t count)
{
    for (size_t done = 0, some; done < count; done += some) {
        some = count - done < RELAYHUB_MAX_RECEIVERS ? count - done : RELAYHUB_MAX_RECEIVERS;
        int result = relayhub_send(hub, ids + done, some, "hello", 5, TIMEOUT, NULL);
        if (result < 0)
            return result;
    }
    return 0;
}

static void print_event(const struct relayhub_event *event)
{
    if (event->type == RELAYHUB_MESSAGE)
        printf("%" PRIu64 " says %zu bytes\n", event->sender, event->length);
    else if (event->type == RELAYHUB_UNDELIVERED)
        printf("%zu did not get message %" PRIu64 "\n", event->receiver_count, event->number);
    else if (event->type == RELAYHUB_ERROR)
        printf("the hub says: %s\n", (const char *)event->body);
}

/* Prints what comes until nothing does for this time, or until the connection ends. */
static int print_events(struct relayhub *hub, int timeout_ms)
{
    struct relayhub_event event;
    int result;

    while ((result = relayhub_receive(hub, &event, timeout_ms)) > 0 && event.type != RELAYHUB_CLOSED)
        print_event(&event);
    return result;
}

int main(int argc, char **argv)
{
    struct relayhub *hub;
    char reason[200];
    uint64_t id, *ids;
    size_t count;
    int result;

    const char *host = argc > 1 ? argv[1] : NULL; /* NULL: this machine, */
    const char *port = argc > 2 ? argv[2] : NULL; /* port 7411 */
    if (relayhub_connect(&hub, host, port, TIMEOUT, reason, sizeof reason) < 0) {
        fprintf(stderr, "%s\n", reason);
        return EXIT_FAILURE;
    }
    if (relayhub_identity(hub, &id, TIMEOUT) < 0 || relayhub_list(hub, &ids, &count, TIMEOUT) < 0)
        return fail(hub);
    printf("I am %" PRIu64 ", with %zu others\n", id, count);

    result = greet(hub, ids, count);
    free(ids);
    if (result < 0)
        return fail(hub);

    result = print_events(hub, 1000);
    if (result == 0) { /* without this, relayhub_close() may lose what was sent */
        relayhub_shutdown(hub);
        result = print_events(hub, TIMEOUT);
    }
    if (result < 0)
        return fail(hub);
    relayhub_close(hub);
    return EXIT_SUCCESS;
}
