/*
 * upload.pml: incomplete frames in a store that is too small for all of them.
 *
 * Some clients upload a frame each, all at the same time: to a receiver that reads, to one that is stuck, and one stops
 * just before the end of its frame. Any of them may vanish, whatever state it is in. Stands for room_for_frame() in
 * room.c, find_place(), claim_frame(), handle_peeked() and input_note_end() in input.c, output_queue() in output.c, and
 * for the time limits of worker.c: those of receivers that take nothing and of frames that do not grow.
 *
 * Proved: when nobody can do anything any more, each upload of a client that is still there has arrived at the receiver
 * that reads, no block is held, and so nobody waits. On the way the reserve is never used by a frame, so that small
 * messages always find the block that they need for a turn.
 *
 * A time limit is a step that may come at any time while its condition lasts, and has to come in the end. How much of
 * what is free a frame may need (a quarter) does not matter here: it has to fit beyond the reserve. A client that waits
 * for memory holds none: what it sent stays in its socket (room_is_short()).
 *
 * Mutations: MUTATE_HOLD_AND_WAIT (memory is taken as bytes come, and waits for more), MUTATE_NO_FRAME_LIMIT and
 * MUTATE_NO_DRAIN_LIMIT (no time limit for a frame that does not grow, for a receiver that is stuck), MUTATE_GONE_UNSEEN
 * (the end of a client that is paused for a receiver is not noticed), MUTATE_NO_RESERVE.
 */
#ifndef UPLOADS
#define UPLOADS 4
#endif
#ifndef BLOCKS
#define BLOCKS 5 /* odd: without the reserve two frames leave one, so that an even number is searched as well */
#endif
#define SIZE 2    /* blocks of a frame, and pieces in which it comes */
#define RESERVE 1
#define LIMIT 1   /* frames that the queue of the stuck receiver takes before it is congested */

/* The last upload never ends, the one before goes to the stuck receiver. */
#define STOPS(i) (i == UPLOADS - 1)
#define TO_STUCK(i) (i >= UPLOADS - 3 && i < UPLOADS - 1)

mtype = { WAITS, CLAIMED, WHOLE, DONE, ENDED, GONE };

mtype state[UPLOADS] = WAITS;
byte held[UPLOADS];    /* blocks */
byte got[UPLOADS];     /* pieces */
bool arrived[UPLOADS];
byte free_blocks = BLOCKS;
byte queued;           /* blocks in the queue of the stuck receiver */
byte frames;
bool stuck = true;     /* that receiver is there */
bool mortal;           /* clients may vanish in this run: either any, or none, since a death ends each wait */
byte talks;            /* small messages that went through */

#ifdef MUTATE_NO_RESERVE
#define FITS(size) (size <= free_blocks)
#else
#define FITS(size) (size + RESERVE <= free_blocks)
#endif

inline give_back(i)
{
    free_blocks = free_blocks + held[i];
    held[i] = 0
}

proctype upload(byte me)
{
    do
#ifdef MUTATE_HOLD_AND_WAIT
    :: atomic { state[me] == WAITS && FITS(1) && !(STOPS(me) && got[me] == SIZE - 1) ->
        free_blocks--; held[me]++; got[me]++;
        if
        :: got[me] == SIZE -> state[me] = WHOLE
        :: else
        fi }
#else
    :: atomic { state[me] == WAITS && FITS(SIZE) ->
        free_blocks = free_blocks - SIZE; held[me] = SIZE; state[me] = CLAIMED }
    :: atomic { state[me] == CLAIMED && got[me] < SIZE && !(STOPS(me) && got[me] == SIZE - 1) ->
        got[me]++;
        if
        :: got[me] == SIZE -> state[me] = WHOLE
        :: else
        fi }
#endif
    /* to the receiver that reads: written in the same turn */
    :: atomic { state[me] == WHOLE && !TO_STUCK(me) -> arrived[me] = true; give_back(me); state[me] = DONE }
    /* to the other: queued, or paused while that is congested, or told UNDELIVERED once it is gone */
    :: atomic { state[me] == WHOLE && TO_STUCK(me) && stuck && frames < LIMIT ->
        frames++; queued = queued + held[me]; held[me] = 0; state[me] = DONE }
    :: atomic { state[me] == WHOLE && TO_STUCK(me) && !stuck -> give_back(me); state[me] = DONE }
#ifndef MUTATE_NO_FRAME_LIMIT
    :: atomic { STOPS(me) && (state[me] == CLAIMED || held[me] > 0) && got[me] == SIZE - 1 ->
        give_back(me); state[me] = ENDED }
#endif
    /* it vanishes */
#ifdef MUTATE_GONE_UNSEEN
    :: atomic { mortal && state[me] == WHOLE && TO_STUCK(me) -> state[me] = GONE }
#endif
    :: atomic { mortal && (state[me] == WAITS || state[me] == CLAIMED || state[me] == WHOLE) ->
        give_back(me); state[me] = GONE }
    od
}

/* A client that holds nothing: its message takes a block for the rest of a turn, at any time. */
active proctype small_talk()
{
    do
    :: atomic { talks < 2 -> assert(free_blocks >= RESERVE); talks++ }
    od
}

active proctype receiver()
{
    do
#ifndef MUTATE_NO_DRAIN_LIMIT
    :: atomic { stuck && frames > 0 -> free_blocks = free_blocks + queued; queued = 0; frames = 0; stuck = false }
#endif
    /* it vanishes */
    :: atomic { mortal && stuck && frames == 0 -> stuck = false }
    od
}

active proctype at_rest()
{
    byte i;

    if
    :: mortal = true
    :: mortal = false
    fi;
    atomic { for (i : 0 .. UPLOADS - 1) { run upload(i) } }
    timeout ->
    atomic {
        assert(free_blocks == BLOCKS && queued == 0);
        for (i : 0 .. UPLOADS - 1) {
            assert(held[i] == 0);
            assert(state[i] == DONE || state[i] == ENDED || state[i] == GONE);
            assert(TO_STUCK(i) || STOPS(i) || state[i] == GONE || arrived[i])
        }
    }
}
