/* check.c: see check.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/check.h"

#include "hub/common/saved.h"
#include "hub/master/listen.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

/* Prints a mistake in the value of an option, and where that is from. */
static void report(struct options *options, const char *name, unsigned index, const char *what, const char *about)
{
    int line = options_line(name, index);

    if (line > 0)
        fprintf(stderr, "relayhubd: %s, line %d: %s: %s %s\n", options->config, line, name, what, about);
    else
        fprintf(stderr, "relayhubd: --%s: %s %s\n", name, what, about);
    options->mistakes++;
}

/* A folder that only its user may look into is not judged. */
static void check_path(struct options *options, const char *name, const char *path)
{
    char folder[PATH_MAX];
    struct stat status;

    if (path[0] == '\0')
        return;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    bool found = stat(folder[0] != '\0' ? folder : "/", &status) == 0;
    if (found ? !S_ISDIR(status.st_mode) : errno == ENOENT || errno == ENOTDIR)
        report(options, name, 0, "there is no folder", folder);
    else if (found && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        report(options, name, 0, "this is a folder:", path);
}

static void check_addresses(struct options *options)
{
    char reason[REASON_TEXT], text[LISTEN_TEXT + 20];

    for (unsigned i = 0; i < options->listen_count; i++) {
        snprintf(text, sizeof text, "cannot listen on %s:", options->listen[i]);
        if (!listen_check(options->listen[i], reason))
            report(options, "listen", i, text, reason);
    }
}

int check_run(struct options *options)
{
    const char *path =
        options->config[0] != '\0' ? options->config : "no configuration file at " OPTIONS_DEFAULT_CONFIG;

    if (options->user[0] != '\0' && getpwnam(options->user) == NULL)
        report(options, "user", 0, "there is no user", options->user);
    if (options->check_upgrade[0] == '\0') { /* which keeps its files and sockets */
        check_path(options, "pid-file", options->pid_file);
        check_path(options, "id-file", options->id_file);
        check_path(options, "statistics-file", options->statistics_file);
        check_path(options, "link", options->link);
        check_addresses(options);
    }
    if (options->mistakes > 0) {
        fprintf(stderr, "relayhubd: %s: %u mistake%s\n", path, options->mistakes, options->mistakes == 1 ? "" : "s");
        return EX_USAGE;
    }
    printf("relayhubd: %s: no mistakes\n", path);
    if (options->check_upgrade[0] != '\0')
        printf(UPGRADE_WORDS, PACKAGE_VERSION, SAVED_FORM, SAVED_FORM);
    return EX_OK;
}
