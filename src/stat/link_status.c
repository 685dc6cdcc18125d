/* link_status.c: see link_status.h. */
#include "stat/link_status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const struct link_value link_values[LINK_VALUES] = {
    {NULL, "up", KIND_GAUGE, "1: the link of another hub is heard, and has its hub"},
    {"since", "up_since", KIND_TIME, "when another hub came up last"},
    {"opened", "streams_opened", KIND_COUNTER, "streams that the links have opened between this hub and another"},
    {"failed", "streams_failed", KIND_COUNTER, "tries to open one that have failed"},
    {"sessions_ended", "sessions_ended", KIND_COUNTER, "times that another hub went down"},
};

/* ---- the text ---- */

static bool read_number(const char *word, uint64_t *number)
{
    char *end;

    if (word == NULL || word[0] < '0' || word[0] > '9')
        return false;
    errno = 0;
    *number = strtoull(word, &end, 10);
    return *end == '\0' && errno == 0;
}

/* The number of a node, or 0. */
static unsigned read_node(const char *word)
{
    uint64_t number;
    return read_number(word, &number) && number <= UINT16_MAX ? (unsigned)number : 0;
}

static void take_pairs(struct link_peer *peer, char **rest)
{
    for (const char *word; (word = strtok_r(NULL, " ", rest)) != NULL;) {
        const char *number = strtok_r(NULL, " ", rest);
        if (strcmp(word, "workers") == 0 && !read_number(number, &peer->workers))
            peer->workers = 0;
        for (unsigned i = 0; i < LINK_VALUES; i++) {
            if (link_values[i].word != NULL && strcmp(link_values[i].word, word) == 0)
                peer->known[i] = read_number(number, &peer->values[i]);
        }
    }
}

static bool is_known(const struct link_status *status, unsigned node)
{
    for (unsigned i = 0; i < status->count; i++) {
        if (status->peers[i].node == node)
            return true;
    }
    return false;
}

static void take_peer(struct link_status *status, char **rest)
{
    unsigned node = read_node(strtok_r(NULL, " ", rest));
    const char *state = strtok_r(NULL, " ", rest);
    bool up = state != NULL && strcmp(state, "up") == 0;

    if (node == 0 || state == NULL || (!up && strcmp(state, "down") != 0) || is_known(status, node) ||
        status->count == LINK_PEERS_MOST)
        return;
    struct link_peer *peer = &status->peers[status->count++];
    *peer = (struct link_peer){.node = node, .known = {true}, .values = {up}};
    take_pairs(peer, rest);
}

static void take_line(struct link_status *status, char *line)
{
    char *rest;
    const char *word = strtok_r(line, " ", &rest);

    if (word == NULL)
        return;
    if (strcmp(word, "node") == 0)
        status->node = read_node(strtok_r(NULL, " ", &rest));
    else if (strcmp(word, "peer") == 0)
        take_peer(status, &rest);
}

void link_status_parse(struct link_status *status, char *text)
{
    *status = (struct link_status){0};
    for (char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        *end = '\0';
        take_line(status, text);
    }
}

/* ---- the file ---- */

static bool fail(struct link_status *status, char reason[LINK_STATUS_REASON], const char *what)
{
    snprintf(reason, LINK_STATUS_REASON, "%s", what);
    status->count = 0;
    return false;
}

/* Reads what there is, at most LINK_STATUS_SIZE, and when it was written. Returns 0 or an errno value. */
static int read_file(const char *path, char text[LINK_STATUS_SIZE + 1], time_t *written)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (file < 0)
        return errno;
    ssize_t got = fstat(file, &status) < 0 ? -1 : read(file, text, LINK_STATUS_SIZE);
    int error = got < 0 ? errno : 0;
    close(file);
    if (error != 0)
        return error;
    text[got] = '\0';
    *written = status.st_mtime;
    return 0;
}

bool link_status_read(struct link_status *status, const char *path, unsigned node, char reason[LINK_STATUS_REASON])
{
    char text[LINK_STATUS_SIZE + 1], what[LINK_STATUS_REASON];
    time_t written = 0;
    int error = read_file(path, text, &written);

    *status = (struct link_status){0};
    if (error != 0)
        return fail(status, reason, error == ENOENT ? "there is no such file" : strerror(error));
    link_status_parse(status, text);
    if (status->node == 0)
        return fail(status, reason, "no link wrote it");
    snprintf(what, sizeof what, "it is of the link of node %u", status->node);
    if (status->node != node)
        return fail(status, reason, what);
    long long age = (long long)time(NULL) - (long long)written;
    snprintf(what, sizeof what, "it was written %lld seconds ago", age);
    return age <= LINK_STATUS_AGE || fail(status, reason, what);
}
