/*
 * accepting.h: takes new clients, chooses a worker for each, and hands them over in batches, with streams to other
 * hubs. A client that is over a limit gets an ERROR and a close. A worker that hangs, or whose channel is full, gets
 * none. When descriptors, memory or workers run out, nothing is accepted for a moment, and clients wait in the
 * listening sockets. For the master alone.
 */
#ifndef RELAYHUB_ACCEPTING_H
#define RELAYHUB_ACCEPTING_H

#include "hub/master/workers.h"

struct accepting {
    struct workers *workers;
    uint32_t clients_a_worker; /* what the descriptors of one process allow */
    uint32_t share;            /* clients of a worker, if all have the same number */
    uint64_t earliest;         /* milliseconds: nobody is accepted before, see id_clock_go_on() */
    bool told;                 /* it was logged that it pauses, since the last client */
    uint64_t again; /* while it pauses: the end of the pause, in milliseconds of workers->now; 0: it does not pause */
};

/* Events are about this and the index of a listening socket. */
#define EVENT_LISTENER 2000u

/*
 * Raises RLIMIT_NOFILE as far as --max-connections needs and the system allows. If that is not enough, lowers
 * options->max_connections with a warning.
 */
void accepting_raise_limits(struct accepting *accepting, struct options *options);

/* Has the listening sockets watched, from `earliest` on. */
void accepting_begin(struct accepting *accepting);

/* Accepts nobody until accepting_begin(): they wait in the kernel. Or until `again`, if that is set afterwards. */
void accepting_stop(struct accepting *accepting);

/* A listening socket has clients: accepts up to a batch of them. */
void accepting_take(struct accepting *accepting, unsigned listener);

/* Accepts one link at the socket of --link: its connection, or -1. */
int accepting_take_link(struct accepting *accepting);

/*
 * Gives a stream to another hub to one worker, and takes the descriptor; no other worker gets it. False if there is no
 * such worker, or it is not ready.
 */
bool accepting_give_stream(struct accepting *accepting, unsigned worker, int fd);

/* Hands over what was accepted. At the end of a turn, and before the hub ends. */
void accepting_hand_over(struct accepting *accepting);

/* How many clients a worker has, and all that run have, as far as their counts can be believed. */
uint64_t accepting_clients_of(const struct accepting *accepting, unsigned index);
uint64_t accepting_clients(const struct accepting *accepting);

/* Goes on accepting when a pause is over. */
void accepting_resume(struct accepting *accepting);

#endif
