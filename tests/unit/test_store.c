/* test_store.c: the message store: its blocks, who holds them, and what remains of the dead. */
#include "hub/common/store.h"

#include "protocol/frame.h"

#include "../run_case.h"
#include "child.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct shared shared;
static struct store a, b; /* the views of workers 0 and 1 */

/* What was allocated at once, named by its first block; the sizes in bytes. */
static uint32_t sizes[WORKERS_MAX * 2048u];

static uint32_t take(struct store *store, uint32_t size)
{
    uint64_t at = store_allocate(store, size);
    if (at == STORE_NONE)
        return BLOCK_NONE;
    ck_assert_uint_eq(at % BLOCK_SIZE, 0);
    sizes[store_block(at)] = size;
    return store_block(at);
}

static uint64_t place_of(uint32_t piece)
{
    return (uint64_t)piece * BLOCK_SIZE;
}

static uint32_t size_of(const struct store *store, uint32_t piece)
{
    (void)store;
    return (sizes[piece] + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
}

static uint8_t *bytes_of(const struct store *store, uint32_t piece)
{
    return store_bytes(store, place_of(piece));
}

static void give(struct store *store, uint32_t piece)
{
    store_release(store, place_of(piece), sizes[piece]);
}

static void hold(struct store *store, uint32_t piece)
{
    store_reference(store, place_of(piece), sizes[piece]);
}

static void lend(struct store *store, uint32_t piece, unsigned worker)
{
    store_lend(store, place_of(piece), sizes[piece], worker);
}

static void borrow_piece(struct store *store, uint32_t piece)
{
    store_borrow(store, place_of(piece), sizes[piece]);
}

/* How many blocks that frees. */
static uint32_t reclaim(struct store *store, uint32_t most)
{
    uint32_t before = store->free_blocks;
    store_reclaim(store, most);
    return store->free_blocks - before;
}

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
    static const uint32_t wanted[] = {1, 4095, 4096, 4097, 65536, 262144, 1048576 + 2044};

    ck_assert_uint_eq(a.blocks, 2048);
    ck_assert_uint_eq(a.free_blocks, 2048);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        uint32_t blocks = (wanted[i] + 4095) / 4096;
        uint32_t piece = take(&a, wanted[i]);
        ck_assert_uint_eq(piece, 0); /* the lowest place */
        ck_assert_uint_eq(size_of(&a, piece), blocks * 4096);
        ck_assert_uint_eq(a.free_blocks, 2048 - blocks);
        memset(bytes_of(&a, piece), 0xaa, size_of(&a, piece));
        give(&a, piece);
        ck_assert_uint_eq(a.free_blocks, 2048);
    }
    uint32_t other = take(&b, 1);
    ck_assert_uint_eq(other, 2048);
    ck_assert(store_is_own(&b, other));
    ck_assert(!store_is_own(&a, other));
    give(&b, other);
}
END_TEST

START_TEST(test_exhaustion_and_recovery)
{
    uint32_t pieces[2048];

    for (int i = 0; i < 2048; i++)
        ck_assert_uint_eq(pieces[i] = take(&a, 4096), (uint32_t)i);
    ck_assert_uint_eq(take(&a, 1), BLOCK_NONE);
    ck_assert_uint_eq(a.free_blocks, 0);
    /* Every second block free is half the store, but no two in a row. */
    for (int i = 0; i < 2048; i += 2)
        give(&a, pieces[i]);
    ck_assert_uint_eq(a.free_blocks, 1024);
    ck_assert_uint_eq(take(&a, 4097), BLOCK_NONE);
    ck_assert_uint_eq(take(&a, 4096), 0);
    give(&a, pieces[63]); /* across a word of the bitmap */
    ck_assert_uint_eq(take(&a, 3 * 4096), 62);
    give(&a, pieces[2047]);
    uint32_t pair = BLOCK_NONE; /* after that many single ones it takes several searches */
    for (int tries = 0; tries < 100 && pair == BLOCK_NONE; tries++)
        pair = take(&a, 2 * 4096);
    ck_assert_uint_eq(pair, 2046);
}
END_TEST

START_TEST(test_holds_inside_a_worker)
{
    uint32_t piece = take(&a, 10000);

    hold(&a, piece);
    give(&a, piece);
    ck_assert_uint_eq(a.free_blocks, 2045);
    give(&a, piece);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_lent_piece_comes_back)
{
    uint32_t piece = take(&a, 4096);

    /* Two records about it are under way; the owner itself needs it no longer. */
    lend(&a, piece, 1);
    lend(&a, piece, 1);
    give(&a, piece);
    ck_assert_uint_eq(a.free_blocks, 2047);

    /* The holder is done with the first before it has seen the second: it is still held. */
    borrow_piece(&b, piece);
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    borrow_piece(&b, piece);
    hold(&b, piece); /* a queue entry */
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 1);
    ck_assert_uint_eq(a.free_blocks, 2048);
    ck_assert_uint_eq(a.lent_count, 0);
}
END_TEST

/* Whatever a worker says that it returned, it gets nothing that was not lent, and its end ends what it kept. */
START_TEST(test_a_worker_that_never_returns)
{
    static const uint32_t wrong[] = {0, 2, 0x7fffffff, 0x80000000, UINT32_MAX};
    uint32_t blocks = a.blocks, pieces = 0;

    for (uint32_t piece; (piece = take(&a, BLOCK_SIZE)) != BLOCK_NONE; pieces++) {
        ck_assert(!store_is_hoarded(&a, 1) || (a.free_blocks < blocks / 16 && pieces > blocks / 2));
        lend(&a, piece, 1);
        atomic_store(shared_references_returned(&shared, piece, 1), wrong[piece % 5]);
        give(&a, piece);
    }
    ck_assert_uint_eq(pieces, blocks);
    ck_assert(store_is_hoarded(&a, 1) && !store_is_hoarded(&a, 0));
    ck_assert_uint_eq(a.lent_to[1], blocks);
    store_reclaim(&a, blocks);
    ck_assert_uint_eq(a.free_blocks, 0);
    store_forget_holder(&a, 1);
    ck_assert(!store_is_hoarded(&a, 1));
    store_reclaim(&a, blocks);
    ck_assert_uint_eq(a.free_blocks, blocks);
}
END_TEST

/* What is held of each arena is known without asking its owner. */
START_TEST(test_blocks_held_of_another_arena)
{
    uint32_t piece = take(&a, 3 * BLOCK_SIZE);

    for (unsigned i = 0; i < 2; i++) {
        lend(&a, piece, 1);
        store_borrow(&b, place_of(piece), sizes[piece]);
    }
    ck_assert_uint_eq(b.held[0], 3);
    store_release(&b, place_of(piece), BLOCK_SIZE);
    store_release(&b, place_of(piece), BLOCK_SIZE);
    ck_assert_uint_eq(b.held[0], 2);
    store_release(&b, place_of(piece) + BLOCK_SIZE, 2 * BLOCK_SIZE);
    store_release(&b, place_of(piece) + BLOCK_SIZE, 2 * BLOCK_SIZE);
    ck_assert_uint_eq(b.held[0], 0);
    give(&a, piece);
    store_reclaim(&a, 8);
    ck_assert_uint_eq(a.lent_to[1], 0);
}
END_TEST

START_TEST(test_exhausted_store_takes_lent_pieces_back)
{
    for (int i = 0; i < 2048; i++) {
        uint32_t piece = take(&a, 4096);
        lend(&a, piece, 1);
        give(&a, piece);
    }
    ck_assert_uint_eq(take(&a, 4096), BLOCK_NONE);
    borrow_piece(&b, 1000);
    give(&b, 1000);
    /* Each allocation looks at some of them. */
    uint32_t piece = BLOCK_NONE;
    for (unsigned tries = 0; tries < 2048 / 8 && piece == BLOCK_NONE; tries++)
        piece = take(&a, 4096);
    ck_assert_uint_eq(piece, 1000);
}
END_TEST

/* Of a block that two workers have, one dies: it is still lent to the other one. */
START_TEST(test_death_of_one_of_two_holders)
{
    struct shared three;
    struct store stores[3];

    ck_assert_int_eq(shared_create(&three, 3, 100, 24u << 20), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(store_open(&stores[i], &three, i, false), 0);
    uint32_t piece = take(&stores[0], 4096);
    lend(&stores[0], piece, 1);
    lend(&stores[0], piece, 2);
    give(&stores[0], piece);
    borrow_piece(&stores[1], piece);
    borrow_piece(&stores[2], piece);
    store_forget_holder(&stores[0], 1);
    store_reset_holder(&three, 1);
    ck_assert_uint_eq(reclaim(&stores[0], 10), 0);
    give(&stores[2], piece);
    ck_assert_uint_eq(reclaim(&stores[0], 10), 1);
    for (unsigned i = 0; i < 3; i++)
        store_close(&stores[i]);
    shared_destroy(&three);
}
END_TEST

/* The low blocks are scattered, so that a run is looked for from where the last search ended: round and round. */
START_TEST(test_search_for_a_run_goes_round)
{
    static uint32_t singles[2048];

    for (uint32_t i = 0; i < 2048; i++)
        singles[i] = take(&a, 4096);
    for (uint32_t i = 0; i < 600; i += 2)
        give(&a, singles[i]);
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t found = BLOCK_NONE;
        for (uint32_t i = 700; i < 704; i++)
            give(&a, singles[i]);
        for (int tries = 0; tries < 200 && found == BLOCK_NONE; tries++)
            found = take(&a, 4 * 4096);
        ck_assert_uint_eq(found, 700);
        for (int tries = 0; tries < 200; tries++) /* until the end of the arena is reached */
            ck_assert_uint_eq(take(&a, 4 * 4096), BLOCK_NONE);
        for (uint32_t i = 700; i < 704; i++)
            sizes[i] = 4096;
    }
}
END_TEST

START_TEST(test_death_of_a_holder)
{
    uint32_t piece = take(&a, 4096);

    lend(&a, piece, 1);
    give(&a, piece);
    borrow_piece(&b, piece);
    /* b dies with it; its successor starts from nothing. */
    store_forget_holder(&a, 1);
    store_reset_holder(&shared, 1);
    store_close(&b);
    ck_assert_int_eq(store_open(&b, &shared, 1, true), 0);
    ck_assert_uint_eq(reclaim(&a, 10), 1);

    /* And both go on as before. */
    piece = take(&a, 4096);
    lend(&a, piece, 1);
    give(&a, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    borrow_piece(&b, piece);
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 1);
}
END_TEST

START_TEST(test_death_of_an_owner)
{
    uint32_t held = take(&a, 9000), unread = take(&a, 9000), finished = take(&a, 9000);

    lend(&a, held, 1);
    lend(&a, held, 1);   /* a second record that it counted and never wrote */
    lend(&a, unread, 1); /* never written at all */
    lend(&a, finished, 1);
    borrow_piece(&b, held);
    borrow_piece(&b, finished);
    give(&b, finished);

    /* a dies. b has read what came, and settles; a's successor finds what is held, and nothing else. */
    store_reconcile(&b, 0);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
    ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    ck_assert_uint_eq(a.lent_count, 3);
    ck_assert_uint_eq(take(&a, 4096), 3); /* after the one that is held */
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    give(&b, held);
    ck_assert_uint_eq(reclaim(&a, 10), 3);
    ck_assert_uint_eq(take(&a, 9000), 0);
}
END_TEST

START_TEST(test_between_processes)
{
    int records[2];
    uint32_t piece;

    ck_assert_int_eq(pipe(records), 0);
    pid_t holder = fork();
    if (holder == 0) {
        close(records[1]);
        while (read(records[0], &piece, sizeof piece) == sizeof piece) {
            sizes[piece] = 4096;
            borrow_piece(&b, piece);
            const uint8_t *bytes = bytes_of(&b, piece);
            for (int i = 1; i < 4096; i++) {
                if (bytes[i] != bytes[0]) /* its owner used it again while it was held */
                    _exit(1);
            }
            give(&b, piece);
        }
        _exit(0);
    }
    close(records[0]);
    for (int i = 0; i < 20000; i++) {
        while ((piece = take(&a, 4096)) == BLOCK_NONE)
            usleep(10);
        memset(bytes_of(&a, piece), i, 4096);
        lend(&a, piece, 1);
        ck_assert_int_eq(write(records[1], &piece, sizeof piece), sizeof piece);
        give(&a, piece);
    }
    close(records[1]);
    int status;
    ck_assert_int_eq(waitpid(holder, &status, 0), holder);
    ck_assert_int_eq(status, 0);
    reclaim(&a, a.lent_count);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

/* ---- the arena against a plain model of it ---- */

static bool model[2048]; /* blocks in use */

/* The lowest place for this many blocks, or BLOCK_NONE. */
static uint32_t model_place(uint32_t count)
{
    for (uint32_t at = 0, run = 0; at < 2048; at++) {
        run = model[at] ? 0 : run + 1;
        if (run == count)
            return at + 1 - count;
    }
    return BLOCK_NONE;
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

/* Small pieces, middle ones, and sometimes one up to the largest frame. */
static uint32_t random_size(void)
{
    uint32_t most = random() % 8 == 0 ? FRAME_MAX_SIZE : random() % 4 == 0 ? 65 * BLOCK_SIZE : 3 * BLOCK_SIZE;
    return 1 + (uint32_t)random() % most;
}

/* The lowest place where a search gets that far; else some place that is free, or none for now. */
START_TEST(test_allocation_takes_free_places)
{
    enum { PIECES = 400, STEPS = 20000 };
    uint32_t pieces[PIECES], refused = 0, lowest = 0, taken = 0, missed = 0;

    srandom(1);
    memset(model, 0, sizeof model);
    memset(pieces, 0xff, sizeof pieces);
    for (int step = 0; step < STEPS; step++) {
        uint32_t *piece = &pieces[random() % PIECES];
        if (*piece != BLOCK_NONE) {
            model_mark(*piece, size_of(&a, *piece) / BLOCK_SIZE, false);
            give(&a, *piece);
            *piece = BLOCK_NONE;
        } else {
            uint32_t size = random_size(), blocks = (size + BLOCK_SIZE - 1) / BLOCK_SIZE;
            uint32_t place = model_place(blocks);
            *piece = take(&a, size);
            if (*piece == BLOCK_NONE) {
                refused++;
                missed += place != BLOCK_NONE;
                continue;
            }
            for (uint32_t i = 0; i < blocks; i++)
                ck_assert(!model[*piece + i]);
            taken++;
            lowest += *piece == place;
            model_mark(*piece, blocks, true);
        }
        ck_assert_uint_eq(a.free_blocks, model_free());
    }
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_lt(missed, refused / 4);
    ck_assert_uint_gt(lowest, taken / 4 * 3);
}
END_TEST

/* A search is bounded, but goes on where it ended: what is there is found. */
START_TEST(test_search_of_a_scattered_arena_goes_on)
{
    static uint32_t pieces[2048];
    unsigned tries = 1;

    for (unsigned i = 0; i < 2048; i++)
        pieces[i] = take(&a, 4096);
    for (unsigned i = 0; i < 1990; i += 2)
        give(&a, pieces[i]);
    for (unsigned i = 1990; i < 2000; i++) /* the one run of ten */
        give(&a, pieces[i]);
    uint32_t found = take(&a, 10 * 4096);
    for (; found == BLOCK_NONE && tries < 100; tries++)
        found = take(&a, 10 * 4096);
    ck_assert_uint_eq(found, 1990);
    ck_assert_uint_gt(tries, 1);
}
END_TEST

/* ---- holds of a part of what was allocated ---- */

START_TEST(test_a_range_holds_its_own_blocks_only)
{
    uint64_t at = store_allocate(&a, 64 * BLOCK_SIZE);

    /* Two ranges that share a block, one at its end; then the whole is given back. */
    store_reference(&a, at + 3 * BLOCK_SIZE - 10, 20);
    store_reference(&a, at + 3 * BLOCK_SIZE + 10, BLOCK_SIZE);
    store_release(&a, at, 64 * BLOCK_SIZE);
    ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    store_release(&a, at + 3 * BLOCK_SIZE - 10, 20);
    ck_assert_uint_eq(a.free_blocks, 2048 - 2);
    store_release(&a, at + 3 * BLOCK_SIZE + 10, BLOCK_SIZE);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_a_range_that_is_extended_holds_what_it_reaches)
{
    uint64_t at = store_allocate(&a, 4 * BLOCK_SIZE);

    store_reference(&a, at, 100);
    store_extend(&a, at, 100, BLOCK_SIZE - 100); /* to the end of its block */
    store_extend(&a, at, BLOCK_SIZE, 1);         /* into the next */
    store_extend(&a, at, BLOCK_SIZE + 1, BLOCK_SIZE);
    store_release(&a, at, 4 * BLOCK_SIZE);
    ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    store_release(&a, at, 2 * BLOCK_SIZE + 1);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_an_area_is_given_back_as_it_fills)
{
    struct area area = {0};

    ck_assert(area_open(&a, &area, 64 * BLOCK_SIZE));
    ck_assert_uint_eq(area_room(&area), 64 * BLOCK_SIZE);
    ck_assert_uint_eq(a.free_blocks, 2048 - 64);
    area_advance(&a, &area, BLOCK_SIZE - 1);
    ck_assert_uint_eq(a.free_blocks, 2048 - 64);
    area_advance(&a, &area, 1); /* nobody holds what was filled */
    ck_assert_uint_eq(a.free_blocks, 2048 - 63);
    uint64_t range = area.at;
    store_reference(&a, range, 2 * BLOCK_SIZE);
    area_advance(&a, &area, 2 * BLOCK_SIZE + 1);
    ck_assert_uint_eq(a.free_blocks, 2048 - 63);
    area_close(&a, &area);
    ck_assert_uint_eq(a.free_blocks, 2048 - 2);
    ck_assert_uint_eq(area_room(&area), 0);
    area_close(&a, &area); /* of none: nothing */
    store_release(&a, range, 2 * BLOCK_SIZE);
    ck_assert_uint_eq(a.free_blocks, 2048);

    ck_assert(area_open(&a, &area, BLOCK_SIZE));
    area_advance(&a, &area, BLOCK_SIZE); /* to its end: it is none */
    ck_assert_uint_eq(a.free_blocks, 2048);
    area_close(&a, &area);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_an_area_is_as_large_as_the_free_blocks_allow)
{
    struct area area = {0};
    uint32_t most = take(&a, 2040 * BLOCK_SIZE);

    ck_assert(area_open(&a, &area, 64 * BLOCK_SIZE)); /* 64, 16, 4 */
    ck_assert_uint_eq(area_room(&area), 4 * BLOCK_SIZE);
    uint32_t rest = take(&a, 3 * BLOCK_SIZE), last = take(&a, BLOCK_SIZE);
    struct area none = {0};
    ck_assert(!area_open(&a, &none, 64 * BLOCK_SIZE));
    ck_assert_uint_eq(area_room(&none), 0);
    give(&a, last);
    ck_assert(area_open(&a, &none, 64 * BLOCK_SIZE));
    ck_assert_uint_eq(area_room(&none), BLOCK_SIZE);
    area_close(&a, &none);
    area_close(&a, &area);
    give(&a, rest);
    give(&a, most);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_two_records_of_neighbouring_ranges)
{
    uint64_t at = store_allocate(&a, 3 * BLOCK_SIZE);
    const uint32_t first = BLOCK_SIZE + 100, second = BLOCK_SIZE + 100; /* both in the middle block */

    store_lend(&a, at, first, 1);
    store_lend(&a, at + first, second, 1);
    store_release(&a, at, 3 * BLOCK_SIZE);
    ck_assert_uint_eq(a.lent_count, 3);
    store_borrow(&b, at, first);
    store_release(&b, at, first);
    ck_assert_uint_eq(reclaim(&a, 10), 1); /* the middle one is in the second record as well */
    store_borrow(&b, at + first, second);
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    store_release(&b, at + first, second);
    ck_assert_uint_eq(reclaim(&a, 10), 2);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_pieces_keep_their_bytes)
{
    uint32_t pieces[2][40];
    struct store *owners[] = {&a, &b};

    for (unsigned i = 0; i < 40; i++) {
        for (unsigned owner = 0; owner < 2; owner++) {
            uint32_t *piece = &pieces[owner][i];
            *piece = take(owners[owner], 1 + i * 5000);
            ck_assert_uint_ne(*piece, BLOCK_NONE);
            memset(bytes_of(owners[owner], *piece), (int)(2 * i + owner + 1), size_of(owners[owner], *piece));
        }
    }
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned owner = 0; owner < 2; owner++) {
            const uint8_t *bytes = bytes_of(&a, pieces[owner][i]); /* all see all */
            for (uint32_t at = 0; at < size_of(&a, pieces[owner][i]); at += 512)
                ck_assert_uint_eq(bytes[at], 2 * i + owner + 1);
        }
    }
}
END_TEST

START_TEST(test_the_whole_arena_as_one_piece)
{
    ck_assert_uint_eq(take(&a, 2048 * 4096 + 1), BLOCK_NONE);
    ck_assert_uint_eq(take(&a, 2048 * 4096), 0);
    ck_assert_uint_eq(take(&a, 1), BLOCK_NONE);
    ck_assert_uint_eq(take(&b, 1), 2048); /* the other's is not touched */
    give(&a, 0);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

/* ---- pieces that come back ---- */

static uint32_t lend_away(uint32_t size)
{
    uint32_t piece = take(&a, size);
    lend(&a, piece, 1);
    give(&a, piece);
    return piece;
}

START_TEST(test_reclaim_looks_at_so_many_and_at_all_in_turn)
{
    uint32_t pieces[10];

    for (unsigned i = 0; i < 10; i++) /* all first, as allocation reclaims too */
        pieces[i] = take(&a, 4096);
    for (unsigned i = 0; i < 10; i++) {
        lend(&a, pieces[i], 1);
        give(&a, pieces[i]);
        borrow_piece(&b, pieces[i]);
    }
    for (unsigned i = 5; i < 10; i++)
        give(&b, pieces[i]);
    ck_assert_uint_eq(reclaim(&a, 0), 0);
    ck_assert_uint_eq(reclaim(&a, 5), 0); /* the first five are held */
    ck_assert_uint_eq(reclaim(&a, 2), 2); /* so the others are next */
    ck_assert_uint_eq(reclaim(&a, 100), 3);
    ck_assert_uint_eq(a.lent_count, 5);
    for (unsigned i = 0; i < 5; i++)
        give(&b, pieces[i]);
    ck_assert_uint_eq(reclaim(&a, 100), 5);
    ck_assert_uint_eq(a.free_blocks, 2048);
    ck_assert_uint_eq(reclaim(&a, 100), 0);
}
END_TEST

START_TEST(test_owner_and_holder_let_go_in_any_order)
{
    uint32_t piece = take(&a, 4096);

    hold(&a, piece);
    lend(&a, piece, 1);
    borrow_piece(&b, piece);
    give(&b, piece);
    give(&a, piece);
    lend(&a, piece, 1); /* and once more */
    borrow_piece(&b, piece);
    give(&b, piece);
    give(&a, piece);
    ck_assert_uint_eq(a.lent_count, 0);
    ck_assert_uint_eq(a.free_blocks, 2048);
}
END_TEST

START_TEST(test_a_piece_of_many_holders_comes_back_with_the_last)
{
    enum { HOLDERS = WORKERS_MAX - 1 };
    struct shared many;
    struct store owner, holders[HOLDERS];

    ck_assert_int_eq(shared_create(&many, WORKERS_MAX, 100, 0), 0);
    ck_assert_int_eq(store_open(&owner, &many, HOLDERS, false), 0);
    uint32_t piece = take(&owner, FRAME_MAX_SIZE), blocks = size_of(&owner, piece) / BLOCK_SIZE;
    for (unsigned i = 0; i < HOLDERS; i++) {
        ck_assert_int_eq(store_open(&holders[i], &many, i, false), 0);
        lend(&owner, piece, i);
        borrow_piece(&holders[i], piece);
    }
    give(&owner, piece);
    for (unsigned i = 0; i < HOLDERS; i++) {
        unsigned next = (i * 31 + 17) % HOLDERS; /* each once */
        ck_assert_uint_eq(reclaim(&owner, 300), 0);
        give(&holders[next], piece);
    }
    ck_assert_uint_eq(reclaim(&owner, 300), blocks);
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
    uint32_t piece = take(&a, 1);
    give(&a, piece);
    give(&a, piece);
}

static void borrow(void *piece)
{
    store_borrow(&b, place_of(*(uint32_t *)piece), 1);
}

START_TEST(test_wrong_pieces_are_an_invariant)
{
    uint32_t wrong[] = {b.first, b.first + b.blocks - 1, 2 * 2048, BLOCK_NONE}; /* its own, or nobody's */

    ck_assert(breaks_invariant(release_too_often, NULL));
    for (unsigned i = 0; i < 4; i++)
        ck_assert(breaks_invariant(borrow, &wrong[i]));
}
END_TEST

/* ---- death for real, in the middle of it ---- */

static int channel[2];

static void hold_and_wait(void *context)
{
    uint32_t *pieces = context;
    for (unsigned i = 0; i < 3; i++)
        borrow_piece(&b, pieces[i]);
    give(&b, pieces[2]);
    EXPECT(write(channel[1], "", 1) == 1);
    pause();
}

START_TEST(test_a_holder_is_killed)
{
    uint32_t pieces[5];
    char byte;

    ck_assert_int_eq(pipe(channel), 0);
    for (unsigned i = 0; i < 5; i++) /* the last two are never read by it */
        pieces[i] = lend_away((i + 1) * 4096);
    pid_t holder = child_start(hold_and_wait, pieces);
    ck_assert_int_eq(read(channel[0], &byte, 1), 1);
    ck_assert_uint_eq(reclaim(&a, 10), 3); /* the one that it released */
    child_kill(holder);
    ck_assert_uint_eq(reclaim(&a, 10), 0);

    store_forget_holder(&a, 1);
    store_reset_holder(&shared, 1);
    ck_assert_uint_eq(reclaim(&a, 20), 1 + 2 + 4 + 5);
    ck_assert_uint_eq(a.free_blocks, 2048);
    for (uint32_t piece = 0; piece < 2 * 2048; piece++) { /* its successor counts from nothing */
        ck_assert_uint_eq(atomic_load(shared_references_given(&shared, piece, 1)), 0);
        ck_assert_uint_eq(atomic_load(shared_references_returned(&shared, piece, 1)), 0);
    }
    close(channel[0]);
    close(channel[1]);
}
END_TEST

static void own_and_wait(void *context)
{
    (void)context;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t piece = take(&a, 10000);
        memset(bytes_of(&a, piece), (int)i + 1, 10000);
        lend(&a, piece, 1);
        if (i < 2) /* the others are counted, and die in its outbox */
            EXPECT(write(channel[1], &piece, sizeof piece) == sizeof piece);
    }
    uint32_t borrowed = b.first;
    sizes[borrowed] = 4096;
    borrow_piece(&a, borrowed);
    uint32_t end = BLOCK_NONE;
    EXPECT(write(channel[1], &end, sizeof end) == sizeof end);
    pause();
}

START_TEST(test_an_owner_is_killed)
{
    uint32_t held[2], end, lent = take(&b, 4096);

    ck_assert_int_eq(pipe(channel), 0);
    lend(&b, lent, 0);
    give(&b, lent);
    pid_t owner = child_start(own_and_wait, NULL);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(read(channel[0], &held[i], sizeof held[i]), sizeof held[i]);
        sizes[held[i]] = 10000;
        borrow_piece(&b, held[i]);
    }
    ck_assert_int_eq(read(channel[0], &end, sizeof end), sizeof end);
    child_kill(owner);

    /* As the workers and the master do, in this order. */
    store_forget_holder(&b, 0);
    store_reconcile(&b, 0);
    store_reset_holder(&shared, 0);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);

    ck_assert_uint_eq(reclaim(&b, 10), 1); /* what the dead one held of the other's */
    ck_assert_uint_eq(a.free_blocks, 2048 - 6);
    ck_assert_uint_eq(a.lent_count, 6);
    /* The successor uses all the rest, and the holder still reads what it was sent. */
    for (uint32_t piece; (piece = take(&a, 4096)) != BLOCK_NONE;)
        memset(bytes_of(&a, piece), 0xff, 4096);
    ck_assert_uint_eq(a.free_blocks, 0);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *bytes = bytes_of(&b, held[i]);
        ck_assert_uint_eq(bytes[0], i + 1);
        ck_assert_mem_eq(bytes, bytes + 1, 9999);
        give(&b, held[i]);
    }
    ck_assert_uint_eq(reclaim(&a, 10), 6);
    close(channel[0]);
    close(channel[1]);
}
END_TEST

START_TEST(test_pieces_outlive_two_owners)
{
    uint32_t piece = lend_away(9000);

    borrow_piece(&b, piece);
    for (unsigned i = 0; i < 2; i++) {
        store_reconcile(&b, 0);
        store_reset_holder(&shared, 0);
        store_close(&a);
        ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
        ck_assert_uint_eq(a.free_blocks, 2048 - 3);
    }
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 3);
}
END_TEST

START_TEST(test_two_records_that_are_held_at_the_same_time)
{
    uint32_t piece = take(&a, 4096);

    lend(&a, piece, 1);
    lend(&a, piece, 1);
    borrow_piece(&b, piece);
    borrow_piece(&b, piece);
    give(&a, piece);
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 0);
    give(&b, piece);
    ck_assert_uint_eq(reclaim(&a, 10), 1);
}
END_TEST

START_TEST(test_a_successor_sees_each_holder)
{
    struct shared three;
    struct store stores[3];

    ck_assert_int_eq(shared_create(&three, 3, 100, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(store_open(&stores[i], &three, i, false), 0);
    for (unsigned owner = 0; owner < 3; owner++) { /* each dies once, and both others hold a piece of it */
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner) {
                uint32_t piece = take(&stores[owner], 4096);
                lend(&stores[owner], piece, holder);
                borrow_piece(&stores[holder], piece);
            }
        }
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner)
                store_reconcile(&stores[holder], owner);
        }
        store_close(&stores[owner]);
        ck_assert_int_eq(store_open(&stores[owner], &three, owner, true), 0);
        ck_assert_uint_eq(stores[owner].free_blocks, stores[owner].blocks - 2);
        uint32_t piece = stores[owner].first;
        for (unsigned holder = 0; holder < 3; holder++) {
            if (holder != owner)
                give(&stores[holder], piece++);
        }
        ck_assert_uint_eq(reclaim(&stores[owner], 10), 2);
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
    uint32_t both = take(&stores[0], 4096), one = take(&stores[0], 4096);
    for (unsigned holder = 1; holder < 3; holder++) {
        lend(&stores[0], both, holder);
        borrow_piece(&stores[holder], both);
    }
    lend(&stores[0], one, 2);
    borrow_piece(&stores[2], one);

    /* The workers 0 and 2 die; only worker 1 is left to settle. */
    store_reconcile(&stores[1], 0);
    store_forget_holder(&stores[1], 0);
    store_reconcile(&stores[1], 2);
    store_forget_holder(&stores[1], 2);
    store_reset_holder(&three, 0);
    store_reset_holder(&three, 2);
    for (unsigned i = 0; i < 3; i += 2) {
        store_close(&stores[i]);
        ck_assert_int_eq(store_open(&stores[i], &three, i, true), 0);
    }
    ck_assert_uint_eq(stores[0].free_blocks, stores[0].blocks - 1);
    give(&stores[1], both);
    ck_assert_uint_eq(reclaim(&stores[0], 10), 1);
    for (unsigned i = 0; i < 3; i++)
        store_close(&stores[i]);
    shared_destroy(&three);
}
END_TEST

/* How many of these blocks have memory. */
static unsigned resident(uint64_t at, uint32_t blocks)
{
    unsigned char pages[1024];
    unsigned count = 0;

    ck_assert_int_eq(mincore(store_bytes(&a, at), (size_t)blocks * BLOCK_SIZE, pages), 0);
    for (uint32_t i = 0; i < blocks; i++)
        count += pages[i] & 1;
    return count;
}

static void sweep(uint32_t most)
{
    while (!store_cool(&a, most))
        ck_assert(a.cooling); /* it is not over */
}

START_TEST(test_memory_of_free_blocks_goes_back)
{
    ck_assert(!a.cooling);
    uint32_t keeps = take(&a, 100 * BLOCK_SIZE), burst = take(&a, 600 * BLOCK_SIZE);
    memset(bytes_of(&a, keeps), 1, 700 * BLOCK_SIZE);
    give(&a, burst);
    ck_assert(a.cooling);
    sweep(UINT32_MAX); /* it was taken a moment ago */
    ck_assert_uint_eq(resident(place_of(keeps), 700), 700);
    ck_assert_uint_eq(take(&a, 10 * BLOCK_SIZE), burst);
    give(&a, burst);
    sweep(64); /* in several steps; not what was taken again */
    ck_assert_uint_eq(resident(place_of(keeps), 700), 110);
    ck_assert(a.cooling);
    sweep(UINT32_MAX);
    ck_assert_uint_eq(resident(place_of(keeps), 700), 100);
    for (uint32_t i = 0; i < 100 * BLOCK_SIZE; i++)
        ck_assert_uint_eq(bytes_of(&a, keeps)[i], 1);
    sweep(UINT32_MAX);
    ck_assert(!a.cooling); /* nothing is left to give */
    give(&a, keeps);
    ck_assert(a.cooling);
    sweep(UINT32_MAX);
    ck_assert_uint_eq(resident(place_of(keeps), 700), 0);
}
END_TEST

/* What a sweep has passed already is left to the next one. */
START_TEST(test_taken_during_a_sweep)
{
    uint32_t burst = take(&a, 200 * BLOCK_SIZE);
    memset(bytes_of(&a, burst), 1, 200 * BLOCK_SIZE);
    give(&a, burst);
    sweep(UINT32_MAX);
    ck_assert(!store_cool(&a, 64));
    ck_assert_uint_eq(take(&a, BLOCK_SIZE), burst);
    memset(bytes_of(&a, burst), 1, BLOCK_SIZE);
    give(&a, burst);
    sweep(UINT32_MAX);
    ck_assert_uint_eq(resident(place_of(burst), 200), 1);
    ck_assert(a.cooling);
    sweep(UINT32_MAX);
    sweep(UINT32_MAX);
    ck_assert_uint_eq(resident(place_of(burst), 200), 0);
    ck_assert(!a.cooling);
}
END_TEST

/* A successor does not know which blocks have memory. */
START_TEST(test_successor_gives_memory_back)
{
    uint32_t held = take(&a, BLOCK_SIZE), burst = take(&a, 500 * BLOCK_SIZE);
    memset(bytes_of(&a, held), 1, 501 * BLOCK_SIZE);
    lend(&a, held, 1);
    store_close(&a);
    ck_assert_int_eq(store_open(&a, &shared, 0, true), 0);
    sweep(UINT32_MAX);
    ck_assert_uint_eq(resident(place_of(held), 1), 1);
    ck_assert_uint_eq(resident(place_of(burst), 500), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("store");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_sizes_and_places);
    tcase_add_test(tests, test_exhaustion_and_recovery);
    tcase_add_test(tests, test_holds_inside_a_worker);
    tcase_add_test(tests, test_lent_piece_comes_back);
    tcase_add_test(tests, test_a_worker_that_never_returns);
    tcase_add_test(tests, test_blocks_held_of_another_arena);
    tcase_add_test(tests, test_exhausted_store_takes_lent_pieces_back);
    tcase_add_test(tests, test_death_of_one_of_two_holders);
    tcase_add_test(tests, test_search_for_a_run_goes_round);
    tcase_add_test(tests, test_death_of_a_holder);
    tcase_add_test(tests, test_death_of_an_owner);
    tcase_add_test(tests, test_between_processes);
    tcase_add_test(tests, test_allocation_takes_free_places);
    tcase_add_test(tests, test_search_of_a_scattered_arena_goes_on);
    tcase_add_test(tests, test_a_range_holds_its_own_blocks_only);
    tcase_add_test(tests, test_a_range_that_is_extended_holds_what_it_reaches);
    tcase_add_test(tests, test_an_area_is_given_back_as_it_fills);
    tcase_add_test(tests, test_an_area_is_as_large_as_the_free_blocks_allow);
    tcase_add_test(tests, test_two_records_of_neighbouring_ranges);
    tcase_add_test(tests, test_pieces_keep_their_bytes);
    tcase_add_test(tests, test_the_whole_arena_as_one_piece);
    tcase_add_test(tests, test_reclaim_looks_at_so_many_and_at_all_in_turn);
    tcase_add_test(tests, test_owner_and_holder_let_go_in_any_order);
    tcase_add_test(tests, test_a_piece_of_many_holders_comes_back_with_the_last);
    tcase_add_test(tests, test_wrong_pieces_are_an_invariant);
    tcase_add_test(tests, test_a_holder_is_killed);
    tcase_add_test(tests, test_an_owner_is_killed);
    tcase_add_test(tests, test_pieces_outlive_two_owners);
    tcase_add_test(tests, test_two_records_that_are_held_at_the_same_time);
    tcase_add_test(tests, test_a_successor_sees_each_holder);
    tcase_add_test(tests, test_one_of_two_holders_dies_with_the_owner);
    tcase_add_test(tests, test_memory_of_free_blocks_goes_back);
    tcase_add_test(tests, test_taken_during_a_sweep);
    tcase_add_test(tests, test_successor_gives_memory_back);
    return run_case(tests, "store");
}
