/*
 * attacker.h: one process of what runs beside: an epoll loop over clients of one kind. No socket of theirs blocks,
 * and all are reset when they close. A closed connection is part of the game: most kinds connect again at once.
 */
#ifndef RELAYHUB_ATTACKER_H
#define RELAYHUB_ATTACKER_H

#include "attackers.h"

#include <stdatomic.h>

enum role {
    ROLE_RECEIVER,   /* reads as `reader` says */
    ROLE_SENDER,     /* sends to one group after the other as much as the server takes, and drops what it reads */
    ROLE_IDENTITY,   /* asks as much as the server takes, and reads the answers */
    ROLE_LIST,       /* the same */
    ROLE_LOST,       /* the same with messages to ids that are not connected */
    ROLE_BRIEF,      /* connects and resets, every other time after an answer */
    ROLE_INCOMPLETE, /* sends a frame without its end, and holds */
    ROLE_UPLOADER,   /* sends one message, in pieces at a steady pace */
};

/* What one process does. */
struct part {
    enum role role;
    unsigned count; /* clients */
    size_t body;

    /* Receivers have these numbers in the table of all receivers; senders send to these. */
    unsigned first, receivers;
    unsigned fan_out; /* this many of them, one after the other, are a group: they get the same messages */
    bool own;         /* a sender has one group for itself; else all senders have all groups, in turn */
    enum reader reader;
};

/* Shared by all processes. Whoever counts is one process. */
struct attack_memory {
    _Atomic unsigned ready; /* parts */
    _Atomic bool started;
    _Atomic unsigned changes; /* of `ids` */
    _Atomic uint64_t memory;
    struct part_figures {
        _Atomic uint64_t bytes, deliveries, closed, last;
    } parts[8];
    _Atomic uint64_t ids[]; /* of the receivers */
};

/* The work of a process, which ends when it is killed. */
_Noreturn void attacker_run(const struct attackers *settings, const struct part *part, struct part_figures *figures,
                            struct attack_memory *memory);

#endif
