/*
 * handoff.h: the channel between the master and one worker: a pair of SOCK_SEQPACKET sockets.
 *
 * The master hands accepted clients over with SCM_RIGHTS (unix(7)), several in one message, and gives the workers their
 * orders. A worker answers the orders that the master waits for. The end of the channel means that the other side is
 * dead.
 */
#ifndef RELAYHUB_HANDOFF_H
#define RELAYHUB_HANDOFF_H

#include "hub/common/limits.h"
#include "hub/common/sandbox.h"

#include <stddef.h>
#include <stdint.h>

#define HANDOFF_CLIENTS_MAX 64u
#define HANDOFF_TEXT 512u /* a worker's line for the log is cut to this */

enum handoff_kind {
    HANDOFF_CLIENTS = 1, /* to a worker: `count` connected sockets come with it */
    HANDOFF_DOWN,        /* to a worker: `worker` is dead; answered with the same */
    HANDOFF_UP,          /* to a worker: `worker` has a successor; answered with the same */
    HANDOFF_LIMITS,      /* to a worker: new limits */
    /* The steps of the end, in this order. */
    HANDOFF_STOP,    /* to a worker: read no more from clients; answered when all records are out */
    HANDOFF_DRAIN,   /* to a worker: all records are in the pipes; answered when nothing is queued any more */
    HANDOFF_FINISH,  /* to a worker: shut all connections down, and leave */
    HANDOFF_PING,    /* to a worker: take a turn */
    HANDOFF_LOG,     /* to the master: a line for the log */
    HANDOFF_READY,   /* to the master: the loop runs, in a sandbox without what is `refused`; after an upgrade, how many
                        clients of the program before are lost */
    HANDOFF_STREAMS, /* to the master: a stream to another hub has begun or ended, see mirror_ends() */
    /* An upgrade: see saving.h. */
    HANDOFF_FREEZE, /* to a worker: handle nothing but records; answered when all are out, with the same `round`, and
                       with whether there were any */
    HANDOFF_SAVE,   /* to a worker: write all connections down in the file that comes with it, and send their sockets;
                       answered after that, with whether it failed */
    HANDOFF_HELD,   /* to the master: `count` of these sockets come with it */
    HANDOFF_THAW,   /* to a worker: go on as before */
};

/* Whether descriptors come with a message of this kind. */
static inline int handoff_has_fds(uint32_t kind)
{
    return kind == HANDOFF_CLIENTS || kind == HANDOFF_SAVE || kind == HANDOFF_HELD;
}

struct handoff {
    uint32_t kind;
    uint32_t worker; /* or an answer */
    uint32_t round;  /* of a freeze */
    uint32_t count;
    uint32_t lost; /* clients whose descriptor did not arrive; their addresses follow the first `count` */
    struct limits limits;
    uint32_t refused[SANDBOX_LAYERS];
    uint32_t addresses[HANDOFF_CLIENTS_MAX]; /* with clients: their entries in addresses.h */
    uint32_t priority;                       /* of a line */
    char text[HANDOFF_TEXT];
    int fds[HANDOFF_CLIENTS_MAX]; /* sent by SCM_RIGHTS, not as part of the message */
};

/* Makes the pair: [0] for the master, [1] for the worker. Non-blocking. Returns 0 or a negative errno value. */
int handoff_pair(int ends[2]);

/*
 * Sends one message with its `count` descriptors, which stay open here. Returns 0, or a negative errno value: -EAGAIN
 * when the channel is full.
 */
int handoff_send(int channel, const struct handoff *message);

/*
 * Receives one message, whose descriptors the caller has to close; execve(2) does not. Returns 1, or 0 at the end of
 * the channel, or a negative errno value: -EAGAIN when there is nothing, -EPROTO when it is nothing that a master or a
 * worker sends.
 */
int handoff_receive(int channel, struct handoff *message);

#endif
