/*
 * copy.h: ways to relay a stream of bytes without a copy through user space, to be compared with read(2) and
 * write(2). Each takes what one connection says to all others, until it closes; all calls block.
 */
#ifndef RELAYHUB_BENCH_COPY_H
#define RELAYHUB_BENCH_COPY_H

#include <stdbool.h>
#include <stddef.h>

typedef void copy_way(int sender, const int *receivers, size_t count);

/* From the sender's socket into a pipe, with tee(2) into a pipe for each receiver, and from there to its socket. */
copy_way copy_splice;

/* Read into one of many buffers; its pages are lent to a pipe and spliced to each receiver. */
copy_way copy_vmsplice;

/*
 * Read into one of many buffers, which MSG_ZEROCOPY sends from. Says at the end on standard error how many of the
 * sends the kernel copied all the same.
 */
copy_way copy_zerocopy;

#endif
