/*
 * options.h: what the operator chose, on the command line and in the configuration file.
 *
 * relayhubd(8) describes each option. The file has a line `name value` for each. The command line wins over the file.
 */
#ifndef RELAYHUB_OPTIONS_H
#define RELAYHUB_OPTIONS_H

#include "hub/common/limits.h"
#include "protocol/address.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif
#define OPTIONS_DEFAULT_CONFIG SYSCONFDIR "/relayhub/relayhubd.conf"

#define LISTEN_MAX 16u
#define LISTEN_TEXT 128u
#define NAME_TEXT 64u
#define REASON_TEXT 512u

struct options {
    struct limits limits;
    unsigned listen_count;
    char listen[LISTEN_MAX][LISTEN_TEXT]; /* as options_listen_address() reads them */
    uint32_t workers;                     /* 0: as many as processors that it may use */
    uint32_t max_connections;
    uint32_t max_per_address; /* clients of one source address at the same time; 0: no limit */
    uint32_t connection_rate; /* new clients of one source address a second; 0: no limit */
    uint64_t store_size;
    char user[NAME_TEXT];           /* empty: no change of the user */
    uint32_t peer_timeout;          /* milliseconds after which the kernel gives up a client of which nothing comes */
    char pid_file[PATH_MAX];        /* empty: none; this and the next three are absolute */
    char id_file[PATH_MAX];         /* empty: none; see id_clock.h */
    char statistics_file[PATH_MAX]; /* empty: none; see statistics.h */
    char config[PATH_MAX];          /* the file that was read; empty: none was named, and there is no default one */
    uint32_t node;                  /* the hub's number among others; 0: it stands alone */
    char link[PATH_MAX];            /* the socket for streams to other hubs; empty: none */
    bool foreground;
    uint32_t sandbox;       /* enum sandbox_mode of sandbox.h */
    bool check;             /* --check or --check-upgrade */
    char check_upgrade[17]; /* the form; empty: not asked for */
    unsigned mistakes;      /* that were printed with --check */
};

/*
 * The last line of --check-upgrade, for printf(3) and for sscanf(3): the version of the program, the form of saved.h
 * that it was asked for and takes over, and the one in which it hands over. Never changes, so that each hub knows
 * another.
 */
#define UPGRADE_WORDS "relayhubd %s takes over form %u and hands over form %u\n"
#define SCAN_UPGRADE_WORDS "relayhubd %63s takes over form %u and hands over form %u"

enum options_result { OPTIONS_RUN, OPTIONS_CHECK, OPTIONS_EXIT, OPTIONS_BAD };

/*
 * Reads the command line and the configuration file into *options. OPTIONS_EXIT after --help or --version
 * printed to standard output; OPTIONS_BAD with one line in `reason` that names the option and what it takes. With
 * --check each mistake of the file is printed and counted, and the result is OPTIONS_CHECK: see check.h.
 */
enum options_result options_read(struct options *options, int argc, char *argv[], char reason[REASON_TEXT]);

/*
 * Returns the line of the configuration file from which an option has its value, or 0. `index` is that of an address to
 * listen on, and otherwise 0.
 */
int options_line(const char *name, unsigned index);

/*
 * Writes the names of the options that differ and that a running hub cannot change, as "--this, --that". False if there
 * are none.
 */
bool options_need_restart(const struct options *options, const struct options *fresh, char names[REASON_TEXT]);

/*
 * Reads the value of --listen: any form of an address whose port is a number or missing, shorter than LISTEN_TEXT.
 * Without a host it means loopback on both families; the host * means all addresses. False if it is none of these.
 */
bool options_listen_address(struct address *address, const char *text);

#endif
