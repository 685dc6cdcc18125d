/*
 * batch.h: the unit in which messages are routed.
 *
 * A batch is messages of one sender to the same receivers, one after the other in the store, in the form that receivers
 * get. What one read brings of a client that pipelines is one batch. A batch costs one look-up and one queue entry for
 * each receiver, however many messages it has.
 */
#ifndef RELAYHUB_BATCH_H
#define RELAYHUB_BATCH_H

#include "protocol/frame.h"

struct batch {
    uint64_t at;     /* where in the store */
    uint32_t length; /* in bytes; 0: no batch */
    uint32_t messages;
    uint64_t number;                                  /* the first one's number at its sender */
    unsigned count;                                   /* receivers, 1 to 255 */
    uint8_t receivers[FRAME_MAX_IDS * FRAME_ID_SIZE]; /* as they came, in network byte order */
};

#endif
