/*
 * chunks.pml: the message store: who may read a chunk, and when its owner may reuse it.
 *
 * The hub counts holds by the block, and a record holds each block of its range by itself. A chunk of one block stands
 * for that. One of two blocks, whose counters are those of its first, is more than the hub does: it shows that nothing
 * rests on what a neighbour's counters say.
 *
 * Worker 0 owns an arena of two blocks, the others hold chunks of it. Stands for store.c, for deliver() and
 * send_records() in relay.c, outbox_flush() and outbox_drop() in mailbox.c and forget_worker() in worker.c;
 * master.pml has the master. A chunk is one block or two, so that what a block's counters and size say can
 * be left over from another chunk that began there.
 *
 * Proved, with any two processes killed at any step, also the two at the same time and successors:
 *   - nobody reads a chunk that was freed, let alone reused, since the record about it was made;
 *   - a successor adopts just what others still hold: no two chunks overlap (INVARIANT in mark());
 *   - nothing leaks: when all have done what they can, each block is free and no counter shows a hold.
 *
 * Memory orders: spin interleaves whole accesses, as if all were sequentially consistent. It may, because
 *   - `done` is stored with release by its holder after its last read and loaded with acquire by the owner
 *     before it reuses the chunk;
 *   - what the owner wrote before a record (the chunk, its size, `sent`) is seen by who read the record: a
 *     write(2) and the read(2) of the same pipe are ordered by the kernel;
 *   - whatever was done before a DOWN, its answer, a fork or an UP is seen after it, for the same reason;
 *   - `sent` is read by its one writer; by others only after that one's death.
 * Not covered: counters that wrap (they are only compared for equality), arenas larger than two blocks,
 * more than two holders, and the order in which free places are taken.
 *
 * Mutations: MUTATE_BITMAP (a shared bit a holder in place of the two counters), MUTATE_NO_SETTLE,
 * MUTATE_SETTLE_FIRST (before the pipe is read), MUTATE_PARTIAL_DRAIN (forget_worker() may leave records in
 * the pipe), MUTATE_HOLD_LISTED (outbox_drop() holds a chunk that is in the queue of lent ones), and MUTATE_NO_ACK, MUTATE_START_EARLY of master.pml.
 */
#ifndef W
#define W 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef MORTAL
#define MORTAL 7
#endif
#ifndef RECORDS
#define RECORDS 3 /* that the owners send in all */
#endif
#ifndef CHUNKS
#define CHUNKS 3 /* that they allocate in all */
#endif

/*
 * With -DSCRIPTED only this happens, so that three workers can be checked with three chunks: block 1 is lent
 * to holder 1 as a chunk of its own, then holder 2 gets a chunk of both blocks.
 */
#ifdef SCRIPTED
#define SCRIPT(condition) (condition)
#else
#define SCRIPT(condition) true
#endif

#define BIT(i) (1 << (i))
#define ALL (BIT(W) - 1)
#define BLOCKS 2
#define PIPE_ROOM 1

/* Shared memory: the counters of the owner's chunks. */
#define AT(holder, block) ((holder) * BLOCKS + (block))
byte sent[W * BLOCKS], done[W * BLOCKS];
byte sizes[BLOCKS];
byte bits[BLOCKS]; /* for MUTATE_BITMAP */

chan pipe[W] = [PIPE_ROOM] of { byte, byte }; /* chunk, and what it then contained */

/* What stands in a block: a number that changes when it is freed. The proof's, not the code's. */
byte content[BLOCKS];

/* The owner's struct store, and its outboxes. */
bool used[BLOCKS];
byte held[BLOCKS];    /* by what it reads and queues itself */
byte returned[BLOCKS]; /* by records whose sender is told later, for MUTATE_HOLD_LISTED */
byte lent[BLOCKS];
bool listed[BLOCKS];  /* in the queue of lent chunks */
chan outbox[W] = [RECORDS] of { byte, byte };
byte records, chunks;

/* A holder's struct store, and its queue entries. */
byte owed[W * BLOCKS], holds[W * BLOCKS];
byte queued[W * BLOCKS];
byte read[W * BLOCKS]; /* content, at the time of the record */

#define reset_range(i)

inline discard(i)
{
    do :: pipe[i] ? _, _ :: empty(pipe[i]) -> break od
}

inline reset_holder(i)
{
    if
    :: i != 0 ->
        for (k : 0 .. BLOCKS - 1) {
            sent[AT(i, k)] = 0;
            done[AT(i, k)] = 0;
            bits[k] = bits[k] & ~BIT(i)
        }
        k = 0
    :: else
    fi
}

#include "master.pml"

/* ---- the owner ---- */

#ifdef MUTATE_BITMAP
#define HOLDER_HAS(h, b) ((bits[b] & BIT(h)) != 0)
#else
#define HOLDER_HAS(h, b) (sent[AT(h, b)] != done[AT(h, b)])
#endif
#define LENT_TO(h, b) (listed[b] && (lent[b] & BIT(h)) != 0 && !HOLDER_HAS(h, b))

inline free_chunk(b)
{
    listed[b] = false;
    for (i : 0 .. BLOCKS - 1) {
        if
        :: i >= b && i < b + sizes[b] -> assert(used[i]); used[i] = false; content[i]++
        :: else
        fi
    }
    i = 0
}

inline allocate(b, size)
{
    d_step {
        for (i : b .. b + size - 1) { used[i] = true }
        i = 0;
        assert(held[b] == 0 && lent[b] == 0);
        held[b] = 1;
        sizes[b] = size;
        chunks++
    }
}

/* store_release() of an own chunk. Who is done with it is looked up later, in reclaim(). */
inline owner_release(b)
{
    if
    :: held[b] + returned[b] == 0 && lent[b] == 0 -> free_chunk(b)
    :: held[b] + returned[b] == 0 && lent[b] != 0 -> listed[b] = true
    :: else
    fi
}

/* came_back() for one holder, which is one look at its counter; the last one frees the chunk. */
inline reclaim(h, b)
{
    lent[b] = lent[b] & ~BIT(h);
    if
    :: lent[b] == 0 -> free_chunk(b)
    :: else
    fi
}

/* store_lend(); the record stays in the outbox until the end of the turn. */
inline lend(b, h)
{
    d_step {
        sent[AT(h, b)]++;
        bits[b] = bits[b] | BIT(h);
        lent[b] = lent[b] | BIT(h);
        outbox[h] ! b, content[b];
        records++
    }
}

inline owner_forgets(h)
{
    d_step {
        up[0] = up[0] & ~BIT(h);
        /* outbox_drop(), relay_unsent_record(): reads the sender's id in the chunk */
        do
        :: outbox[h] ? b, c ->
            assert(content[b] == c);
#ifdef MUTATE_HOLD_LISTED
            returned[b]++
#endif
        :: empty(outbox[h]) -> break
        od;
        b = 0; c = 0
    }
    /* store_forget_holder() */
    d_step {
        for (b : 0 .. BLOCKS - 1) {
            if
            :: (lent[b] & BIT(h)) != 0 ->
                lent[b] = lent[b] & ~BIT(h);
                if
                :: lent[b] == 0 && listed[b] -> free_chunk(b)
                :: else
                fi
            :: else
            fi
        }
        b = 0
    }
    answers[0] ! DOWN, h
}

/* store_open() of a successor. Each counter is read for itself. */
inline adopt_held_chunks()
{
    for (b : 0 .. BLOCKS - 1) {
        for (h : 1 .. W - 1) {
#ifdef MUTATE_BITMAP
            c = HOLDER_HAS(h, b);
            i = 0;
#else
            c = sent[AT(h, b)];
            i = done[AT(h, b)];
#endif
            lent[b] = lent[b] | (c != i -> BIT(h) : 0)
        }
        atomic {
            c = 0; i = 0;
            if
            :: lent[b] != 0 ->
                assert(sizes[b] > 0 && sizes[b] <= BLOCKS - b);
                for (i : b .. b + sizes[b] - 1) { assert(!used[i]); used[i] = true }
                i = 0;
                listed[b] = true
            :: else
            fi
        }
    }
    /* All the rest is free from now on. */
    atomic {
        for (b : 0 .. BLOCKS - 1) {
            content[b] = content[b] + (used[b] -> 0 : 1)
        }
        b = 0; h = 0; i = 0
    }
}

#define SENDS(h, b) (held[b] > 0 && records < RECORDS && (up[0] & BIT(h)) != 0)
#define RETURNS(b) (returned[b] > 0)
#define FLUSHES(h) (nempty(outbox[h]) && nfull(pipe[h]))

inline owner_loop()
{
    do
    :: atomic { channel[0] ? UP, h -> up[0] = up[0] | BIT(h) } answers[0] ! UP, h; h = 0
    :: channel[0] ? DOWN, h -> owner_forgets(h); h = 0
    /* input: a frame is read into a new chunk */
    :: atomic { chunks < CHUNKS && !used[0] && SCRIPT(chunks == 0) -> allocate(0, 1) }
    :: atomic { chunks < CHUNKS && used[0] && !used[1] && SCRIPT(chunks == 1) -> allocate(1, 1) }
    :: atomic { chunks < CHUNKS && !used[0] && !used[1] && SCRIPT(chunks == 2) -> allocate(0, 2) }
    /* relay_run() */
    :: atomic { SENDS(1, 0) && SCRIPT(false) -> lend(0, 1) }
    :: atomic { SENDS(1, 1) && SCRIPT(records == 0) -> lend(1, 1) }
#if W > 2
    :: atomic { SENDS(2, 0) && SCRIPT(records == 1 && chunks == 3) -> lend(0, 2) }
    :: atomic { SENDS(2, 1) && SCRIPT(false) -> lend(1, 2) }
#endif
    /* flush_outboxes() */
    :: atomic { FLUSHES(1) -> outbox[1] ? b, c; pipe[1] ! b, c; b = 0; c = 0 }
#if W > 2
    :: atomic { FLUSHES(2) -> outbox[2] ? b, c; pipe[2] ! b, c; b = 0; c = 0 }
#endif
    /* the frame is written to those whom this worker has, and the chunk released */
    :: d_step { held[0] > 0 -> held[0]--; owner_release(0) }
    :: d_step { held[1] > 0 -> held[1]--; owner_release(1) }
#ifdef MUTATE_HOLD_LISTED
    :: d_step { RETURNS(0) -> assert(used[0]); returned[0]--; owner_release(0) }
    :: d_step { RETURNS(1) -> assert(used[1]); returned[1]--; owner_release(1) }
#endif
    /* store_reclaim() */
    :: d_step { LENT_TO(1, 0) -> reclaim(1, 0) }
    :: d_step { LENT_TO(1, 1) -> reclaim(1, 1) }
#if W > 2
    :: d_step { LENT_TO(2, 0) -> reclaim(2, 0) }
    :: d_step { LENT_TO(2, 1) -> reclaim(2, 1) }
#endif
    od
}

inline owner_dies()
{
    d_step {
        b = 0;
        do
        :: b < BLOCKS ->
            used[b] = false; held[b] = 0; returned[b] = 0; lent[b] = 0; listed[b] = false;
            b++
        :: else -> break
        od;
        h = 0;
        do
        :: h < W ->
            do :: outbox[h] ? _, _ :: empty(outbox[h]) -> break od;
            h++
        :: else -> break
        od;
        b = 0; c = 0; h = 0; i = 0;
        up[0] = 0;
        zombie[0] = true
    }
}

active proctype owner()
{
    byte b, c, h, i;

    atomic { up[0] = ALL & ~BIT(0) }
    do
    :: { owner_loop() } unless { killed[0] };
        owner_dies();
        forked[0] -> forked[0] = false;
        { adopt_held_chunks() } unless { killed[0] };
    od
}

/* ---- a holder ---- */

/* store_release() of another's chunk. */
inline holder_release(me, b)
{
    holds[AT(me, b)]--;
    if
    :: holds[AT(me, b)] == 0 ->
        done[AT(me, b)] = done[AT(me, b)] + owed[AT(me, b)];
        owed[AT(me, b)] = 0;
        bits[b] = bits[b] & ~BIT(me)
    :: else
    fi
}

/* deliver(): borrows the chunk, and queues the range for a client or has nobody for it. */
inline deliver(me)
{
    assert(content[b] == c);
    owed[AT(me, b)]++;
    holds[AT(me, b)]++;
    read[AT(me, b)] = c;
    if
    :: queued[AT(me, b)]++; holds[AT(me, b)]++
    :: skip
    fi;
    holder_release(me, b)
}

/* A range is written to its client: sendmsg(2) reads the chunk, then it is released. */
inline flush(me, chunk)
{
    assert(content[chunk] == read[AT(me, chunk)]);
    d_step { queued[AT(me, chunk)]--; holder_release(me, chunk) }
}

/* store_settle() */
inline settle(me)
{
    if
    :: who == 0 ->
        for (b : 0 .. BLOCKS - 1) {
            c = sent[AT(me, b)];
            done[AT(me, b)] = c - owed[AT(me, b)];
            c = 0
        }
        b = 0
    :: else
    fi
}

inline holder_forgets(me)
{
#ifdef MUTATE_SETTLE_FIRST
    settle(me);
#endif
    /* What the dead one wrote is in the pipe, and read before anything is settled. */
    do
    :: atomic { pipe[me] ? b, c -> deliver(me); b = 0; c = 0 }
#ifdef MUTATE_PARTIAL_DRAIN
    :: break
#endif
    :: empty(pipe[me]) -> break
    od;
#if !defined(MUTATE_NO_SETTLE) && !defined(MUTATE_SETTLE_FIRST)
    settle(me);
#endif
    answers[me] ! DOWN, who;
    who = 0
}

inline holder_loop(me)
{
    do
    :: channel[me] ? UP, who -> answers[me] ! UP, who; who = 0
    :: channel[me] ? DOWN, who -> holder_forgets(me)
    :: atomic { pipe[me] ? b, c -> deliver(me); b = 0; c = 0 }
    :: queued[AT(me, 0)] > 0 -> flush(me, 0)
    :: queued[AT(me, 1)] > 0 -> flush(me, 1)
    od
}

inline holder_dies(me)
{
    d_step {
        b = 0;
        do
        :: b < BLOCKS -> owed[AT(me, b)] = 0; holds[AT(me, b)] = 0; queued[AT(me, b)] = 0; read[AT(me, b)] = 0; b++
        :: else -> break
        od;
        b = 0; c = 0; who = 0;
        up[me] = 0;
        zombie[me] = true
    }
}

proctype holder(byte me)
{
    byte b, c, who;

    do
    :: { holder_loop(me) } unless { killed[me] };
        holder_dies(me);
        forked[me] -> forked[me] = false
    od
}

/* When nobody can do anything any more, all chunks are back. */
active proctype at_rest()
{
    byte i;

    atomic { run holder(1); if :: W > 2 -> run holder(2) :: else fi }
    timeout ->
    atomic {
        for (i : 0 .. W - 1) { assert(state[i] == RUNNING && empty(pipe[i])) }
        for (i : 0 .. BLOCKS - 1) {
            assert(!used[i] && !listed[i] && lent[i] == 0 && held[i] == 0 && returned[i] == 0)
        }
#ifndef MUTATE_BITMAP
        for (i : AT(1, 0) .. W * BLOCKS - 1) { assert(sent[i] == done[i]) }
#endif
    }
}
