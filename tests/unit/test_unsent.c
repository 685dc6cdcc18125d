/* test_unsent.c: what becomes of a message whose record still waits in the outbox when the receiver's worker dies. */
#include "hub/worker/relay.h"

#include "../run_case.h"
#include "worker_fixture.h"

#include "hub/common/addresses.h"
#include "hub/worker/connection.h"
#include "hub/worker/output.h"

#include <sys/socket.h>

#define NUMBER 40u

static int peer; /* the sender's side */
static struct connection *sender;
static struct routes routes_of_other;

static void set_up(void)
{
    int ends[2];

    worker_set_up();
    worker->room.queue_bytes = 4u << 20;
    worker->room.queue_entries = SEGMENTS;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    peer = ends[1];
    connection_open(worker, ends[0], ADDRESS_NONE);
    sender = &worker->connections[0];
    ck_assert_uint_ne(sender->id, 0);
    ck_assert_int_eq(routes_open(&routes_of_other, &shared, 1), 0);
}

static void tear_down(void)
{
    routes_close(&routes_of_other);
    worker_tear_down();
    close(peer);
}

/* A message to each of these, in this order. */
static void send_message(const uint64_t *receivers, unsigned count)
{
    struct batch batch = {.length = FRAME_DELIVERY_HEADER_SIZE, .number = NUMBER, .messages = 1, .count = count};

    batch.at = store_allocate(&worker->store, batch.length);
    ck_assert_uint_ne(batch.at, STORE_NONE);
    frame_store_word(store_bytes(&worker->store, batch.at), frame_word(FRAME_MESSAGE, 1, 0));
    frame_store_id(store_bytes(&worker->store, batch.at) + FRAME_WORD_SIZE, sender->id);
    for (unsigned i = 0; i < count; i++)
        frame_store_id(batch.receivers + i * FRAME_ID_SIZE, receivers[i]);
    relay_batch(worker, sender, &batch);
}

/* Its sender is told of each receiver once, also of one that it has named twice. */
START_TEST(test_each_receiver_once)
{
    const uint64_t first = routes_publish(&routes_of_other, routes_take_slot(&routes_of_other));
    const uint64_t second = routes_publish(&routes_of_other, routes_take_slot(&routes_of_other));
    const uint64_t named[] = {first, second, first, second, first}, told[] = {first, second};
    const uint32_t word = frame_word(FRAME_UNDELIVERED, 1, FRAME_NUMBER_SIZE);
    uint8_t said[1000];

    send_message(named, 5);
    relay_drop_records(worker, 1);
    output_write(worker);
    ck_assert_int_eq(recv(peer, said, sizeof said, 0), 2 * frame_size(word));
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *frame = said + i * frame_size(word);
        ck_assert_uint_eq(frame_load_word(frame), word);
        ck_assert_uint_eq(frame_load_id(frame + FRAME_WORD_SIZE), told[i]);
        ck_assert_uint_eq(frame_load_id(frame + FRAME_WORD_SIZE + FRAME_ID_SIZE), NUMBER);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("unsent");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_each_receiver_once);
    return run_case(tests, "unsent");
}
