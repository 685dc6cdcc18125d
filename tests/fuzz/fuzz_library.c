/* fuzz_library.c: librelayhub against a hub that says anything at all. The input is what it says, and the calls. */
#include "fuzz.h"

#include "client/library.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Every byte that an event points to can be read. */
static void touch(const struct relayhub_event *event)
{
    static volatile uint64_t sum;

    switch (event->type) {
    case RELAYHUB_MESSAGE:
    case RELAYHUB_ERROR:
        REQUIRE(event->length <= RELAYHUB_MAX_BODY);
        for (size_t i = 0; i <= event->length; i++)
            sum += ((const uint8_t *)event->body)[i];
        REQUIRE(((const uint8_t *)event->body)[event->length] == 0);
        break;
    case RELAYHUB_UNDELIVERED:
    case RELAYHUB_LIST:
        REQUIRE(event->receiver_count <= RELAYHUB_MAX_RECEIVERS);
        for (size_t i = 0; i < event->receiver_count; i++)
            sum += event->receivers[i];
        break;
    case RELAYHUB_IDENTITY:
    case RELAYHUB_CLOSED:
        break;
    }
}

static void call(struct relayhub *hub, uint8_t which)
{
    struct relayhub_event event;
    struct iovec part = {.iov_base = "a body", .iov_len = 6};
    uint64_t id = 1, *ids;
    size_t count;

    switch (which % 6) {
    case 0:
        if (relayhub_identity(hub, &id, 0) == 0)
            REQUIRE(id != 1 || hub->fd >= 0);
        break;
    case 1:
        if (relayhub_list(hub, &ids, &count, 0) == 0)
            free(ids);
        break;
    case 2:
        relayhub_try_send(hub, &id, 1, &part, 1, NULL);
        break;
    case 3:
        relayhub_send(hub, &id, 1, "text", 4, 0, NULL);
        break;
    default:
        if (relayhub_receive(hub, &event, 0) == 1)
            touch(&event);
        break;
    }
    REQUIRE(relayhub_reason(hub) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct relayhub_event event;
    int ends[2], result;

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    struct relayhub *hub = rh_new(ends[0]);
    REQUIRE(hub != NULL);
    /* A byte that says which call and how much comes, then that much, over and over. */
    for (size_t at = 0; at < size;) {
        uint8_t control = data[at++];
        size_t length = (size_t)1 << (control >> 4);
        length = length < size - at ? length : size - at;
        (void)!send(ends[1], data + at, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += length;
        call(hub, control & 15);
    }
    close(ends[1]);
    for (int i = 0; i < 100000 && (result = relayhub_receive(hub, &event, 0)) == 1; i++) {
        touch(&event);
        if (event.type == RELAYHUB_CLOSED)
            break;
    }
    relayhub_close(hub);
    return 0;
}
