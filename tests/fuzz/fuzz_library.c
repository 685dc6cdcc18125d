/*
 * fuzz_library.c: librelayhub against a hub that says anything at all. The input is what it says, and the calls.
 *
 * A second reading of the same bytes tells which events have to come, in which order and with what in them.
 */
#include "fuzz.h"

#include "client/library.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* All that the hub said, and how far its frames were seen as events. */
static struct {
    uint8_t bytes[1 << 20];
    size_t fill, at;
} said;

static void say(int fd, const uint8_t *data, size_t size)
{
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent <= 0)
        return;
    REQUIRE((size_t)sent <= sizeof said.bytes - said.fill);
    memcpy(said.bytes + said.fill, data, (size_t)sent);
    said.fill += (size_t)sent;
}

/*
 * The next frame that no call may swallow: all but answers, which a waiting call takes for itself. NULL at the
 * first frame that is wrong or incomplete.
 */
static const uint8_t *next_said(void)
{
    while (said.fill - said.at >= FRAME_WORD_SIZE) {
        const uint8_t *frame = said.bytes + said.at;
        uint32_t word = frame_load_word(frame);
        if (!frame_valid_from_hub(word) || frame_size(word) > said.fill - said.at)
            break;
        said.at += frame_size(word);
        if (frame_type(word) != FRAME_IDENTITY && frame_type(word) != FRAME_LIST)
            return frame;
    }
    return NULL;
}

static void check_body(const struct relayhub_event *event, const uint8_t *frame)
{
    uint32_t word = frame_load_word(frame);

    REQUIRE(event->length == frame_length(word));
    REQUIRE(memcmp(event->body, frame + frame_header_size(word), event->length) == 0);
    REQUIRE(((const uint8_t *)event->body)[event->length] == 0);
}

static void check_ids(const struct relayhub_event *event, const uint8_t *frame)
{
    REQUIRE(event->receiver_count == frame_count(frame_load_word(frame)));
    for (size_t i = 0; i < event->receiver_count; i++)
        REQUIRE(event->receivers[i] == frame_load_id(frame + FRAME_WORD_SIZE + i * FRAME_ID_SIZE));
}

static void check(const struct relayhub_event *event)
{
    const uint8_t *frame;

    switch (event->type) {
    case RELAYHUB_MESSAGE:
        REQUIRE((frame = next_said()) != NULL && frame_type(frame_load_word(frame)) == FRAME_MESSAGE);
        REQUIRE(event->sender == frame_load_id(frame + FRAME_WORD_SIZE));
        check_body(event, frame);
        break;
    case RELAYHUB_ERROR:
        REQUIRE((frame = next_said()) != NULL && frame_type(frame_load_word(frame)) == FRAME_ERROR);
        check_body(event, frame);
        break;
    case RELAYHUB_UNDELIVERED:
        REQUIRE((frame = next_said()) != NULL && frame_type(frame_load_word(frame)) == FRAME_UNDELIVERED);
        REQUIRE(event->number == frame_load_id(frame + frame_header_size(frame_load_word(frame))));
        check_ids(event, frame);
        break;
    case RELAYHUB_LIST:
        REQUIRE(event->receiver_count <= RELAYHUB_MAX_RECEIVERS);
        REQUIRE(event->last == (event->receiver_count < RELAYHUB_MAX_RECEIVERS));
        break;
    case RELAYHUB_CONNECTED: /* only after relayhub_set_reconnect() */
        REQUIRE(false);
        break;
    case RELAYHUB_IDENTITY:
    case RELAYHUB_CLOSED:
        break;
    }
}

static void call(struct relayhub *hub, uint8_t which)
{
    struct relayhub_event event;
    struct iovec parts[] = {{.iov_base = "a body", .iov_len = 6}, {.iov_base = "", .iov_len = 0}, {"in parts", 8}};
    uint64_t id = 1, *ids;
    size_t count;

    switch (which) {
    case 0:
        relayhub_identity(hub, &id, 0);
        break;
    case 1:
        if (relayhub_list(hub, &ids, &count, 0) == 0)
            free(ids);
        break;
    case 2:
        relayhub_try_send(hub, &id, 1, parts, 1, NULL);
        break;
    case 3:
        relayhub_send(hub, &id, 1, "text", 4, 0, NULL);
        break;
    case 4:
        relayhub_sendv(hub, &id, 1, parts, 3, 0, NULL);
        break;
    case 5:
        relayhub_shutdown(hub);
        break;
    case 6:
        relayhub_flush(hub);
        break;
    case 7:
        relayhub_request_identity(hub);
        break;
    case 8:
        relayhub_request_list(hub);
        break;
    case 9: /* a body that lies in the library's own memory */
        if (relayhub_receive(hub, &event, 0) == 1) {
            check(&event);
            if (event.type == RELAYHUB_MESSAGE)
                relayhub_send(hub, &event.sender, 1, event.body, event.length, 0, NULL);
        }
        break;
    case 10: /* nothing: more comes before the next call */
        break;
    default:
        if (relayhub_receive(hub, &event, 0) == 1)
            check(&event);
        break;
    }
    REQUIRE(relayhub_reason(hub) != NULL);
}

/* Whether what stands after the last event can be what the library calls a broken protocol. */
static bool broke_protocol(const struct relayhub *hub)
{
    size_t left = said.fill - said.at;
    const uint8_t *frame = said.bytes + said.at;

    if (left < FRAME_WORD_SIZE)
        return false;
    uint32_t word = frame_load_word(frame);
    if (!frame_valid_from_hub(word))
        return true;
    switch (frame_type(word)) {
    case FRAME_UNDELIVERED:
        return frame_size(word) <= left && frame_load_id(frame + frame_header_size(word)) >= hub->messages;
    case FRAME_IDENTITY:
    case FRAME_LIST: /* only the library knows whether somebody asked, or what came after it was wrong */
        return true;
    default:
        return false;
    }
}

/* All that came before the end is given out, unless the hub broke the protocol; and then that is said. */
static void take_the_rest(struct relayhub *hub)
{
    struct relayhub_event event = {.type = RELAYHUB_MESSAGE};
    int result;

    while ((result = relayhub_receive(hub, &event, 0)) == 1 && event.type != RELAYHUB_CLOSED)
        check(&event);
    if (result == -EPROTO) {
        REQUIRE(broke_protocol(hub));
        return;
    }
    REQUIRE(result == 1); /* RELAYHUB_CLOSED, whatever the end was */
    REQUIRE(next_said() == NULL);
    REQUIRE(said.fill - said.at < FRAME_WORD_SIZE || frame_valid_from_hub(frame_load_word(said.bytes + said.at)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2];

    said.fill = said.at = 0;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    struct relayhub *hub = rh_new(ends[0]);
    REQUIRE(hub != NULL);
    /* A byte that says which call and how much comes, then that much, over and over. */
    for (size_t at = 0; at < size;) {
        uint8_t control = data[at++];
        size_t length = (size_t)1 << (control >> 4);
        length = length < size - at ? length : size - at;
        say(ends[1], data + at, length);
        at += length;
        call(hub, control & 15);
    }
    close(ends[1]);
    take_the_rest(hub);
    relayhub_close(hub);
    return 0;
}
