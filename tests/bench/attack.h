/*
 * attack.h: what runs beside the pairs of the isolation mode: a flood of well-behaved clients, or an attack.
 *
 * It runs in its own processes, so that the pairs do not wait for its work. Each process has clients of one kind
 * (attacker.h) and ends with SIGKILL.
 */
#ifndef RELAYHUB_ATTACK_H
#define RELAYHUB_ATTACK_H

#include "attackers.h"

/* Starts the processes and waits until their receivers are connected. */
void attack_prepare(const struct attackers *settings);

/* Lets them begin. */
void attack_start(void);

struct attack_figures {
    uint64_t deliveries; /* so far */
    uint64_t bytes;      /* that its clients have read */
    uint64_t closed;     /* of its connections, by the server */
    uint64_t last;       /* when the last delivery was complete, by measure_now() */
    uint64_t memory;     /* the highest Pss of the server */
};

/* What they have done so far. Ends the program when one of them has ended. */
struct attack_figures attack_read(void);

/* Kills them. */
void attack_end(void);

#endif
