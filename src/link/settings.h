/*
 * settings.h: what the operator of a link chose, on the command line and in a file; see relayhub-link(8).
 */
#ifndef RELAYHUB_LINK_SETTINGS_H
#define RELAYHUB_LINK_SETTINGS_H

#include "protocol/address.h"

#include <limits.h>
#include <stdint.h>

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif
#define LINK_DEFAULT_CONFIG SYSCONFDIR "/relayhub/relayhub-link.conf"
#define LINK_DEFAULT_PORT "7412"

#define SERVERS_MOST 16u
#define TEXT_MOST 256u
#define LINK_PATH_MOST 108u /* as unix(7) says */

struct link_options {
    char link[LINK_PATH_MOST];  /* of the hub */
    struct address data_listen; /* perhaps without a port */
    struct address advertise;   /* the same; no host: none was named */
    unsigned server_count;
    char servers[SERVERS_MOST][TEXT_MOST]; /* URLs */
    char cluster[TEXT_MOST];               /* what all subjects begin with */
    char credentials[PATH_MAX];            /* the next: empty: none */
    char tls_ca[PATH_MAX], tls_certificate[PATH_MAX], tls_key[PATH_MAX];
    char status_file[PATH_MAX];
    char config[PATH_MAX]; /* the file that was read; empty: none was named, and there is no default one */
    uint32_t node_timeout; /* milliseconds */
    bool verbose, status;  /* print the status file */
};

enum link_options_result { LINK_OPTIONS_RUN, LINK_OPTIONS_EXIT, LINK_OPTIONS_BAD };

/* Reads both into *options. LINK_OPTIONS_BAD after the reason was printed. */
enum link_options_result link_options_read(struct link_options *options, int argc, char *argv[]);

#endif
