/*
 * master.pml: the master's part in the death of a worker. Not a model of its own: the others include it.
 *
 * Stands for worker_died(), forgotten_by(), bury(), start_worker(), crew_replace(), crew_tell() and
 * crew_hear() in workers.c, and for become_worker() as to what a successor knows at its start. A kill
 * comes before any step of a worker: between two statements of its process here, which are the single
 * accesses to shared memory, pipe and channel in the code.
 *
 * The including model says: W, the workers (2 or 3); BIT and ALL, for sets of them; MORTAL, who may be killed, a bit each; DEATHS, how
 * often in all; and what the master does to the model's own memory, in a process of many steps:
 *     reset_range(i)   routes_reset_range(), as soon as i is dead
 *     discard(i)       inbox_discard(), and
 *     reset_holder(i)  store_reset_holder(), both when all others have forgotten i
 *
 * Mutations, each of which must break some model:
 *     MUTATE_NO_ACK        a dead worker is buried without waiting for the others
 *     MUTATE_START_EARLY   a successor starts although another dead worker is not buried yet
 *     MUTATE_UP_UNACKED    a successor gets clients before all others know of it
 */
#define CHANNEL_ROOM 1 /* so few that handoff_send() says EAGAIN, and bits are told later, lowest first */

mtype = { DOWN, UP };
mtype:state = { RUNNING, DYING, WAITING };

/* Between a worker's process and the master. */
bool killed[W];        /* takes no further step */
bool zombie[W];        /* waitpid() returns it */
bool forked[W];        /* its successor may begin */
byte up[W];            /* struct worker: up, without the worker itself */
chan channel[W] = [CHANNEL_ROOM] of { mtype, byte };
chan answers[W] = [2] of { mtype, byte };

/* struct member */
mtype:state state[W] = RUNNING;
byte forget[W], remember[W], unacked[W];
byte strangers[W];     /* who does not know of it yet: it gets no clients before they do */
byte deaths;

#ifdef MUTATE_UP_UNACKED
#define HAS_CLIENTS(i) true
#else
#define HAS_CLIENTS(i) (strangers[i] == 0)
#endif

#ifdef MUTATE_START_EARLY
#define MAY_START(i) (state[i] == WAITING)
#else
#define MAY_START(i) (state[i] == WAITING && !SOMEBODY(IS_DYING))
#endif

#if W == 2
#define SOMEBODY(test) (test(0) || test(1))
#define ANY(which, test) if :: test(0) -> which = 0 :: test(1) -> which = 1 fi
#else
#define SOMEBODY(test) (test(0) || test(1) || test(2))
#define ANY(which, test) if :: test(0) -> which = 0 :: test(1) -> which = 1 :: test(2) -> which = 2 fi
#endif

#define IS_DYING(i) (state[i] == DYING)
#define IS_ZOMBIE(i) zombie[i]
#define HAS_ANSWERED(i) nempty(answers[i])
#define IS_TO_BURY(i) (state[i] == DYING && unacked[i] == 0)
#define IS_TO_HEAR_DOWN(i) (state[i] == RUNNING && forget[i] != 0 && nfull(channel[i]))
#define IS_TO_HEAR_UP(i) (state[i] == RUNNING && remember[i] != 0 && nfull(channel[i]))
#define MAY_DIE(i) (deaths < DEATHS && state[i] == RUNNING && !killed[i] && (MORTAL & BIT(i)) != 0)

/* __builtin_ctzll() */
#define LOWEST(bits) ((bits & 1) -> 0 : ((bits & 2) -> 1 : 2))

inline empty_channels(i)
{
    do :: channel[i] ? _, _ :: empty(channel[i]) -> break od;
    do :: answers[i] ? _, _ :: empty(answers[i]) -> break od
}

inline worker_died(i, k)
{
    d_step {
        zombie[i] = false;
        state[i] = DYING;
        empty_channels(i);
        forget[i] = 0; remember[i] = 0; strangers[i] = 0;
        unacked[i] = 0;
        for (k : 0 .. W - 1) {
            unacked[k] = unacked[k] & ~BIT(i);      /* forgotten_by(): the dead acts on nothing */
            strangers[k] = strangers[k] & ~BIT(i);
            if
            :: k != i && state[k] == RUNNING ->
                remember[k] = remember[k] & ~BIT(i);
                forget[k] = forget[k] | BIT(i);
                unacked[i] = unacked[i] | BIT(k)
            :: else
            fi
        }
        k = 0;
#ifdef MUTATE_NO_ACK
        unacked[i] = 0
#endif
    }
}

inline start_worker(i, k)
{
    d_step {
        state[i] = RUNNING;
        killed[i] = false;
        forked[i] = true;
        up[i] = 0;
        for (k : 0 .. W - 1) {
            if
            :: k != i && state[k] == RUNNING ->
                up[i] = up[i] | BIT(k);
                remember[k] = remember[k] | BIT(i);
                strangers[i] = strangers[i] | BIT(k)
            :: else
            fi
        }
        k = 0
    }
}

inline bury_all(i)
{
    do
    :: SOMEBODY(IS_TO_BURY) ->
        atomic { ANY(i, IS_TO_BURY) -> discard(i) }
        reset_holder(i);
        state[i] = WAITING
    :: else -> break
    od
}

active proctype master()
{
    byte i, k;
    mtype kind;

end:
    do
    :: atomic { ANY(i, IS_ZOMBIE) -> worker_died(i, k) }
        reset_range(i);
        bury_all(i)
    :: atomic { ANY(i, MAY_START) -> start_worker(i, k) }
    :: atomic {
        ANY(i, HAS_ANSWERED) -> answers[i] ? kind, k;
        if
        :: kind == DOWN -> unacked[k] = unacked[k] & ~BIT(i)
        :: kind == UP -> strangers[k] = strangers[k] & ~BIT(i)
        fi;
        k = 0 }
        bury_all(i)
    :: atomic {
        ANY(i, IS_TO_HEAR_DOWN) -> channel[i] ! DOWN, LOWEST(forget[i]);
        forget[i] = forget[i] & (forget[i] - 1) }
    :: atomic {
        ANY(i, IS_TO_HEAR_UP) -> channel[i] ! UP, LOWEST(remember[i]);
        remember[i] = remember[i] & (remember[i] - 1) }
    od
}

/* kill -9, of anybody at any time, or never. */
active proctype killer()
{
    byte i;

    do
    :: atomic { ANY(i, MAY_DIE) -> killed[i] = true; deaths++; i = 0 }
    :: break
    od
}
