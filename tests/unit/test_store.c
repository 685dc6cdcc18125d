/* test_store.c: the message store: chunks, who holds them, and what remains of the dead. */
#include "hub/store.h"

#include "protocol/frame.h"

#include "child.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shared shared;
static struct store a, b; /* the views of workers 0 and 1 */

static void set_up(void)
{
    ck_assert_int_eq(shared_create(&shared, 2, 100, 16u << 20), 0);
    ck_assert_int_eq(store_open(&a, &shared, 0, false), 0);
    ck_assert_int_eq(store_open(&b, &shared, 1, false), 0);
}

static void tear_down(void)
{
    store_close(&a);
    store_close(&b);
    shared_destroy(&shared);
}

START_TEST(test_sizes_and_places)
{
    static const uint32_t sizes[] = {1, 4095, 4096, 4097, 65536, 262144, 1048576 + 2044};

    ck_assert_uint_eq(a.blocks, 2048);
    ck_assert_uint_eq(a.free_blocks, 2048);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t blocks = (sizes[i] + 4095) / 4096;
        uint32_t chunk = store_allocate(&a, sizes[i]);
        ck_assert_uint_eq(chunk, 0); /* the lowest place */
        ck_assert_uint_eq(store_size(&a, chunk), blocks * 4096);
        ck_assert_uint_eq(a.free_blocks, 2048 - blocks);
        memset(store_bytes(&a, chunk), 0xaa, store_size(&a, chunk));
        store_release(&a, chunk);
        ck_assert_uint_eq(a.free_blocks, 2048);
    }
    uint32_t other = store_allocate(&b, 1);
    ck_assert_uint_eq(other, 2048);
    ck_assert(store_is_own(&b, other));
    ck_assert(!store_is_own(&a, other));
    store_release(&b, other);
}
END_TEST

START_TEST(test_exhaustion_and_recovery)
{
    uint32_t chunks[2048];

    for (int i = 0; i < 2048; i++)
        ck_assert_uint_eq(chunks[i] = store_allocate(&a, 4096), (uint32_t)i);
    ck_assert_uint_eq(store_allocate(&a, 1), CHUNK_NONE);
    ck_assert_uint_eq(a.free_blocks, 0);
    /* Every second block free is half the store, but no two in a row. */
    for (int i = 0; i < 2048; i += 2)
        store_release(&a, chunks[i]);
    ck_assert_uint_eq(a.free_blocks, 1024);
    ck_assert_uint_eq(store_allocate(&a, 4097), CHUNK_NONE);
    ck_assert_uint_eq(store_allocate(&a, 4096), 0);
    store_release(&a, chunks[63]); /* across a word of the bitmap */
    ck_assert_uint_eq(store_allocate(&a, 3 * 4096), 62);
    store_release(&a, chunks[2047]);
    ck_assert_uint_eq(store_allocate(&a, 2 * 4096), 2046);
}
END_TEST

START_TEST(test_holds_inside_a_worker)
{
    uint32_t chunk = store_allocate(&a, 10000);

    ck_assert(store_sole(&a, chunk));
    store_hold(&a, chunk);
    ck_assert(!store_sole(&a, chunk));
    store_release(&a, chunk);
    ck_assert(store_sole(&a, chunk));
    ck_assert_uint_eq(a.free_blocks, 2045);
    store_release(&a, chunk);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_lent_chunk_comes_back)
{
    uint32_t chunk = store_allocate(&a, 4096);

    /* Two records about it are under way; the owner itself needs it no longer. */
    store_lend(&a, chunk, 1);
    store_lend(&a, chunk, 1);
    ck_assert(!store_sole(&a, chunk));
    store_release(&a, chunk);
    ck_assert_uint_eq(a.free_blocks, 2047);

    /* The holder is done with the first before it has seen the second: it is still held. */
    store_borrow(&b, chunk);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_borrow(&b, chunk);
    store_hold(&b, chunk); /* a queue entry */
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);
    ck_assert_uint_eq(a.free_blocks, 2048);
    ck_assert_uint_eq(a.lent_count, 0);
}
END_TEST

START_TEST(test_exhausted_store_takes_lent_chunks_back)
{
    for (int i = 0; i < 2048; i++) {
        uint32_t chunk = store_allocate(&a, 4096);
        store_lend(&a, chunk, 1);
        store_release(&a, chunk);
    }
    ck_assert_uint_eq(store_allocate(&a, 4096), CHUNK_NONE);
    store_borrow(&b, 1000);
    store_release(&b, 1000);
    ck_assert_uint_eq(store_allocate(&a, 4096), 1000);
}
END_TEST

START_TEST(test_death_of_a_holder)
{
    uint32_t chunk = store_allocate(&a, 4096);

    store_lend(&a, chunk, 1);
    store_release(&a, chunk);
    store_borrow(&b, chunk);
    /* b dies with it; its successor starts from nothing. */
    store_forget_holder(&a, 1);
    store_reset_holder(&shared, 1);
    store_close(&b);
    ck_assert_int_eq(store_open(&b, &shared, 1, true), 0);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);

    /* And both go on as before. */
    chunk = store_allocate(&a, 4096);
    store_lend(&a, chunk, 1);
    store_release(&a, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_borrow(&b, chunk);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);
}
END_TEST

START_TEST(test_death_of_an_owner)
{
    uint32_t held = store_allocate(&a, 9000), unread = store_allocate(&a, 9000), finished = store_allocate(&a, 9000);

    store_lend(&a, held, 1);
    store_lend(&a, held, 1);   /* a second record that it counted and never wrote */
    store_lend(&a, unread, 1); /* never written at all */
    store_lend(&a, finished, 1);
    store_borrow(&b, held);
    store_borrow(&b, finished);
    store_release(&b, finished);

    /* a dies. b has read what came, and settles; a's successor finds what is held, and nothing else. */
    store_settle(&b, 0);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
    ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    ck_assert_uint_eq(a.lent_count, 1);
    ck_assert_uint_eq(store_allocate(&a, 4096), 3); /* behind the one that is held */
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_release(&b, held);
    ck_assert_uint_eq(store_reclaim(&a, 10), 3);
    ck_assert_uint_eq(store_allocate(&a, 9000), 0);
}
END_TEST

START_TEST(test_between_processes)
{
    int records[2];
    uint32_t chunk;

    ck_assert_int_eq(pipe(records), 0);
    pid_t holder = fork();
    if (holder == 0) {
        close(records[1]);
        while (read(records[0], &chunk, sizeof chunk) == sizeof chunk) {
            store_borrow(&b, chunk);
            const uint8_t *bytes = store_bytes(&b, chunk);
            for (int i = 1; i < 4096; i++) {
                if (bytes[i] != bytes[0]) /* its owner used it again while it was held */
                    _exit(1);
            }
            store_release(&b, chunk);
        }
        _exit(0);
    }
    close(records[0]);
    for (int i = 0; i < 20000; i++) {
        while ((chunk = store_allocate(&a, 4096)) == CHUNK_NONE)
            usleep(10);
        memset(store_bytes(&a, chunk), i, 4096);
        store_lend(&a, chunk, 1);
        ck_assert_int_eq(write(records[1], &chunk, sizeof chunk), sizeof chunk);
        store_release(&a, chunk);
    }
    close(records[1]);
    int status;
    ck_assert_int_eq(waitpid(holder, &status, 0), holder);
    ck_assert_int_eq(status, 0);
    store_reclaim(&a, a.lent_count);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

/* ---- the arena against a plain model of it ---- */

static bool model[2048]; /* blocks in use */

/* The lowest place for so many blocks, or CHUNK_NONE. */
static uint32_t model_place(uint32_t count)
{
    for (uint32_t at = 0, run = 0; at < 2048; at++) {
        run = model[at] ? 0 : run + 1;
        if (run == count)
            return at + 1 - count;
    }
    return CHUNK_NONE;
}

static void model_mark(uint32_t at, uint32_t count, bool used)
{
    for (uint32_t i = at; i < at + count; i++)
        model[i] = used;
}

static uint32_t model_free(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < 2048; i++)
        count += !model[i];
    return count;
}

/* Small chunks, middle ones, and sometimes one up to the largest frame. */
static uint32_t random_size(void)
{
    uint32_t most = random() % 8 == 0 ? FRAME_MAX_SIZE : random() % 4 == 0 ? 65 * BLOCK_SIZE : 3 * BLOCK_SIZE;
    return 1 + (uint32_t)random() % most;
}

START_TEST(test_allocation_takes_the_lowest_place_always)
{
    enum { CHUNKS = 400, STEPS = 20000 };
    uint32_t chunks[CHUNKS], refused = 0;

    srandom(1);
    memset(model, 0, sizeof model);
    memset(chunks, 0xff, sizeof chunks);
    for (int step = 0; step < STEPS; step++) {
        uint32_t *chunk = &chunks[random() % CHUNKS];
        if (*chunk != CHUNK_NONE) {
            model_mark(*chunk, store_size(&a, *chunk) / BLOCK_SIZE, false);
            store_release(&a, *chunk);
            *chunk = CHUNK_NONE;
        } else {
            uint32_t size = random_size(), blocks = (size + BLOCK_SIZE - 1) / BLOCK_SIZE;
            *chunk = store_allocate(&a, size);
            ck_assert_uint_eq(*chunk, model_place(blocks));
            if (*chunk == CHUNK_NONE) {
                refused++;
                continue;
            }
            ck_assert_uint_eq(store_size(&a, *chunk), blocks * BLOCK_SIZE);
            model_mark(*chunk, blocks, true);
        }
        ck_assert_uint_eq(a.free_blocks, model_free());
    }
    ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(test_chunks_keep_their_bytes)
{
    uint32_t chunks[2][40];
    struct store *owners[] = {&a, &b};

    for (unsigned i = 0; i < 40; i++) {
        for (unsigned owner = 0; owner < 2; owner++) {
            uint32_t *chunk = &chunks[owner][i];
            *chunk = store_allocate(owners[owner], 1 + i * 5000);
            ck_assert_uint_ne(*chunk, CHUNK_NONE);
            memset(store_bytes(owners[owner], *chunk), (int)(2 * i + owner + 1), store_size(owners[owner], *chunk));
        }
    }
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned owner = 0; owner < 2; owner++) {
            const uint8_t *bytes = store_bytes(&a, chunks[owner][i]); /* all see all */
            for (uint32_t at = 0; at < store_size(&a, chunks[owner][i]); at += 512)
                ck_assert_uint_eq(bytes[at], 2 * i + owner + 1);
        }
    }
}
END_TEST

START_TEST(test_the_whole_arena_as_one_chunk)
{
    ck_assert_uint_eq(store_allocate(&a, 2048 * 4096 + 1), CHUNK_NONE);
    ck_assert_uint_eq(store_allocate(&a, 2048 * 4096), 0);
    ck_assert_uint_eq(store_allocate(&a, 1), CHUNK_NONE);
    ck_assert_uint_eq(store_allocate(&b, 1), 2048); /* the other's is not touched */
    store_release(&a, 0);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

/* ---- chunks that come back ---- */

static uint32_t lend_away(uint32_t size)
{
    uint32_t chunk = store_allocate(&a, size);
    store_lend(&a, chunk, 1);
    store_release(&a, chunk);
    return chunk;
}

START_TEST(test_reclaim_looks_at_so_many_and_at_all_in_turn)
{
    uint32_t chunks[10];

    for (unsigned i = 0; i < 10; i++) /* all first, as allocation reclaims too */
        chunks[i] = store_allocate(&a, 4096);
    for (unsigned i = 0; i < 10; i++) {
        store_lend(&a, chunks[i], 1);
        store_release(&a, chunks[i]);
        store_borrow(&b, chunks[i]);
    }
    for (unsigned i = 5; i < 10; i++)
        store_release(&b, chunks[i]);
    ck_assert_uint_eq(store_reclaim(&a, 0), 0);
    ck_assert_uint_eq(store_reclaim(&a, 5), 0); /* the first five are held */
    ck_assert_uint_eq(store_reclaim(&a, 2), 2); /* so the others are next */
    ck_assert_uint_eq(store_reclaim(&a, 100), 3);
    ck_assert_uint_eq(a.lent_count, 5);
    for (unsigned i = 0; i < 5; i++)
        store_release(&b, chunks[i]);
    ck_assert_uint_eq(store_reclaim(&a, 100), 5);
    ck_assert_uint_eq(a.free_blocks, 2048);
    ck_assert_uint_eq(store_reclaim(&a, 100), 0);
}
END_TEST

START_TEST(test_owner_and_holder_let_go_in_any_order)
{
    uint32_t chunk = store_allocate(&a, 4096);

    store_hold(&a, chunk);
    store_lend(&a, chunk, 1);
    store_borrow(&b, chunk);
    store_release(&b, chunk);
    ck_assert(!store_sole(&a, chunk)); /* held twice by its owner */
    store_release(&a, chunk);
    ck_assert(store_sole(&a, chunk));
    store_lend(&a, chunk, 1); /* and once more */
    store_borrow(&b, chunk);
    ck_assert(!store_sole(&a, chunk));
    store_release(&b, chunk);
    store_release(&a, chunk);
    ck_assert_uint_eq(a.lent_count, 0);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_a_chunk_of_many_holders_comes_back_with_the_last)
{
    enum { HOLDERS = WORKERS_MAX - 1 };
    struct shared many;
    struct store owner, holders[HOLDERS];

    ck_assert_int_eq(shared_create(&many, WORKERS_MAX, 100, 0), 0);
    ck_assert_int_eq(store_open(&owner, &many, HOLDERS, false), 0);
    uint32_t chunk = store_allocate(&owner, FRAME_MAX_SIZE), blocks = store_size(&owner, chunk) / BLOCK_SIZE;
    for (unsigned i = 0; i < HOLDERS; i++) {
        ck_assert_int_eq(store_open(&holders[i], &many, i, false), 0);
        store_lend(&owner, chunk, i);
        store_borrow(&holders[i], chunk);
    }
    store_release(&owner, chunk);
    for (unsigned i = 0; i < HOLDERS; i++) {
        unsigned next = (i * 31 + 17) % HOLDERS; /* each once */
        ck_assert_uint_eq(store_reclaim(&owner, 1), 0);
        store_release(&holders[next], chunk);
    }
    ck_assert_uint_eq(store_reclaim(&owner, 1), blocks);
    for (unsigned i = 0; i < HOLDERS; i++)
        store_close(&holders[i]);
    store_close(&owner);
    shared_destroy(&many);
}
END_TEST

/* ---- what must not be ---- */

static void release_too_often(void *context)
{
    (void)context;
    uint32_t chunk = store_allocate(&a, 1);
    store_release(&a, chunk);
    store_release(&a, chunk);
}

static void borrow(void *chunk)
{
    store_borrow(&b, *(uint32_t *)chunk);
}

START_TEST(test_wrong_chunks_are_an_invariant)
{
    uint32_t wrong[] = {b.first, b.first + b.blocks - 1, 2 * 2048, CHUNK_NONE}; /* its own, or nobody's */

    ck_assert(breaks_invariant(release_too_often, NULL));
    for (unsigned i = 0; i < 4; i++)
        ck_assert(breaks_invariant(borrow, &wrong[i]));
}
END_TEST

/* ---- death for real, in the middle of it ---- */

static int channel[2];

static void hold_and_wait(void *context)
{
    uint32_t *chunks = context;
    for (unsigned i = 0; i < 3; i++)
        store_borrow(&b, chunks[i]);
    store_release(&b, chunks[2]);
    EXPECT(write(channel[1], "", 1) == 1);
    pause();
}

START_TEST(test_a_holder_is_killed)
{
    uint32_t chunks[5];
    char byte;

    ck_assert_int_eq(pipe(channel), 0);
    for (unsigned i = 0; i < 5; i++) /* the last two are never read by it */
        chunks[i] = lend_away((i + 1) * 4096);
    pid_t holder = child_start(hold_and_wait, chunks);
    ck_assert_int_eq(read(channel[0], &byte, 1), 1);
    ck_assert_uint_eq(store_reclaim(&a, 10), 3); /* the one that it released */
    child_kill(holder);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);

    store_forget_holder(&a, 1);
    store_reset_holder(&shared, 1);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1 + 2 + 4 + 5);
    ck_assert_uint_eq(a.free_blocks, 2048);
    for (uint32_t chunk = 0; chunk < 2 * 2048; chunk++) { /* its successor counts from nothing */
        ck_assert_uint_eq(atomic_load(shared_sent(&shared, chunk, 1)), 0);
        ck_assert_uint_eq(atomic_load(shared_done(&shared, chunk, 1)), 0);
    }
    close(channel[0]);
    close(channel[1]);
}
END_TEST

static void own_and_wait(void *context)
{
    (void)context;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t chunk = store_allocate(&a, 10000);
        memset(store_bytes(&a, chunk), (int)i + 1, 10000);
        store_lend(&a, chunk, 1);
        if (i < 2) /* the others are counted, and die in its outbox */
            EXPECT(write(channel[1], &chunk, sizeof chunk) == sizeof chunk);
    }
    uint32_t borrowed = b.first;
    store_borrow(&a, borrowed);
    uint32_t end = CHUNK_NONE;
    EXPECT(write(channel[1], &end, sizeof end) == sizeof end);
    pause();
}

START_TEST(test_an_owner_is_killed)
{
    uint32_t held[2], end, lent = store_allocate(&b, 4096);

    ck_assert_int_eq(pipe(channel), 0);
    store_lend(&b, lent, 0);
    store_release(&b, lent);
    pid_t owner = child_start(own_and_wait, NULL);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(read(channel[0], &held[i], sizeof held[i]), sizeof held[i]);
        store_borrow(&b, held[i]);
    }
    ck_assert_int_eq(read(channel[0], &end, sizeof end), sizeof end);
    child_kill(owner);

    /* As the workers and the master do, in this order. */
    store_forget_holder(&b, 0);
    store_settle(&b, 0);
    store_reset_holder(&shared, 0);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);

    ck_assert_uint_eq(store_reclaim(&b, 10), 1); /* what the dead one held of the other's */
    ck_assert_uint_eq(a.free_blocks, 2048 - 6);
    ck_assert_uint_eq(a.lent_count, 2);
    /* The successor uses all the rest, and the holder still reads what it was sent. */
    for (uint32_t chunk; (chunk = store_allocate(&a, 4096)) != CHUNK_NONE;)
        memset(store_bytes(&a, chunk), 0xff, 4096);
    ck_assert_uint_eq(a.free_blocks, 0);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *bytes = store_bytes(&b, held[i]);
        ck_assert_uint_eq(bytes[0], i + 1);
        ck_assert_mem_eq(bytes, bytes + 1, 9999);
        store_release(&b, held[i]);
    }
    ck_assert_uint_eq(store_reclaim(&a, 10), 6);
    close(channel[0]);
    close(channel[1]);
}
END_TEST

START_TEST(test_chunks_outlive_two_owners)
{
    uint32_t chunk = lend_away(9000);

    store_borrow(&b, chunk);
    for (unsigned i = 0; i < 2; i++) {
        store_settle(&b, 0);
        store_reset_holder(&shared, 0);
        store_close(&a);
        ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
        ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    }
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 3);
}
END_TEST

START_TEST(test_two_records_that_are_held_at_the_same_time)
{
    uint32_t chunk = store_allocate(&a, 4096);

    store_lend(&a, chunk, 1);
    store_lend(&a, chunk, 1);
    store_borrow(&b, chunk);
    store_borrow(&b, chunk);
    store_release(&a, chunk);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 0);
    store_release(&b, chunk);
    ck_assert_uint_eq(store_reclaim(&a, 10), 1);
}
END_TEST

START_TEST(test_a_successor_sees_each_holder)
{
    struct shared three;
    struct store stores[3];

    ck_assert_int_eq(shared_create(&three, 3, 100, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(store_open(&stores[i], &three, i, false), 0);
    for (unsigned owner = 0; owner < 3; owner++) { /* each dies once, and both others hold a chunk of it */
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner) {
                uint32_t chunk = store_allocate(&stores[owner], 4096);
                store_lend(&stores[owner], chunk, holder);
                store_borrow(&stores[holder], chunk);
            }
        }
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner)
                store_settle(&stores[holder], owner);
        }
        store_close(&stores[owner]);
        ck_assert_int_eq(store_open(&stores[owner], &three, owner, true), 0);
        ck_assert_uint_eq(stores[owner].free_blocks, stores[owner].blocks - 2);
        uint32_t chunk = stores[owner].first;
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner)
                store_release(&stores[holder], chunk++);
        }
        ck_assert_uint_eq(store_reclaim(&stores[owner], 10), 2);
    }
    for (unsigned i = 0; i < 3; i++)
        store_close(&stores[i]);
    shared_destroy(&three);
}
END_TEST

START_TEST(test_one_of_two_holders_dies_with_the_owner)
{
    struct shared three;
    struct store stores[3];

    ck_assert_int_eq(shared_create(&three, 3, 100, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(store_open(&stores[i], &three, i, false), 0);
    uint32_t both = store_allocate(&stores[0], 4096), one = store_allocate(&stores[0], 4096);
    for (unsigned holder = 1; holder < 3; holder++) {
        store_lend(&stores[0], both, holder);
        store_borrow(&stores[holder], both);
    }
    store_lend(&stores[0], one, 2);
    store_borrow(&stores[2], one);

    /* The workers 0 and 2 die; only worker 1 is left to settle. */
    store_settle(&stores[1], 0);
    store_forget_holder(&stores[1], 0);
    store_settle(&stores[1], 2);
    store_forget_holder(&stores[1], 2);
    store_reset_holder(&three, 0);
    store_reset_holder(&three, 2);
    for (unsigned i = 0; i < 3; i += 2) {
        store_close(&stores[i]);
        ck_assert_int_eq(store_open(&stores[i], &three, i, true), 0);
    }
    ck_assert_uint_eq(stores[0].free_blocks, stores[0].blocks - 1);
    store_release(&stores[1], both);
    ck_assert_uint_eq(store_reclaim(&stores[0], 10), 1);
    for (unsigned i = 0; i < 3; i++)
        store_close(&stores[i]);
    shared_destroy(&three);
}
END_TEST

START_TEST(test_a_chunk_of_another_is_never_sole)
{
    uint32_t chunk = store_allocate(&a, 4096), other = store_allocate(&b, 4096);

    store_lend(&a, chunk, 1);
    store_borrow(&b, chunk);
    ck_assert(!store_sole(&b, chunk));
    store_lend(&b, other, 0);
    store_borrow(&a, other);
    ck_assert(!store_sole(&a, other));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_sizes_and_places);
    tcase_add_test(tests, test_exhaustion_and_recovery);
    tcase_add_test(tests, test_holds_inside_a_worker);
    tcase_add_test(tests, test_lent_chunk_comes_back);
    tcase_add_test(tests, test_exhausted_store_takes_lent_chunks_back);
    tcase_add_test(tests, test_death_of_a_holder);
    tcase_add_test(tests, test_death_of_an_owner);
    tcase_add_test(tests, test_between_processes);
    tcase_add_test(tests, test_allocation_takes_the_lowest_place_always);
    tcase_add_test(tests, test_chunks_keep_their_bytes);
    tcase_add_test(tests, test_the_whole_arena_as_one_chunk);
    tcase_add_test(tests, test_reclaim_looks_at_so_many_and_at_all_in_turn);
    tcase_add_test(tests, test_owner_and_holder_let_go_in_any_order);
    tcase_add_test(tests, test_a_chunk_of_many_holders_comes_back_with_the_last);
    tcase_add_test(tests, test_wrong_chunks_are_an_invariant);
    tcase_add_test(tests, test_a_holder_is_killed);
    tcase_add_test(tests, test_an_owner_is_killed);
    tcase_add_test(tests, test_chunks_outlive_two_owners);
    tcase_add_test(tests, test_two_records_that_are_held_at_the_same_time);
    tcase_add_test(tests, test_a_successor_sees_each_holder);
    tcase_add_test(tests, test_one_of_two_holders_dies_with_the_owner);
    tcase_add_test(tests, test_a_chunk_of_another_is_never_sole);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
