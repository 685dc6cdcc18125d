/* check.c: see check.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "hub/master/check.h"

#include "hub/common/saved.h"
#include "hub/master/listen.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

static void __attribute__((format(printf, 2, 3))) report(struct options *options, const char *format, ...)
{
    va_list values;

    fputs("relayhubd: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
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
        report(options, "--%s: there is no folder %s", name, folder);
    else if (found && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        report(options, "--%s: %s is a folder", name, path);
}

static void check_addresses(struct options *options)
{
    char reason[REASON_TEXT];

    for (unsigned i = 0; i < options->listen_count; i++) {
        if (!listen_check(options->listen[i], reason))
            report(options, "--listen %s: %s", options->listen[i], reason);
    }
}

int check_run(struct options *options)
{
    const char *path = options->config[0] != '\0' ? options->config : "no configuration file";

    if (options->user[0] != '\0' && getpwnam(options->user) == NULL)
        report(options, "--user: there is no user %s", options->user);
    check_path(options, "pid-file", options->pid_file);
    check_path(options, "id-file", options->id_file);
    check_path(options, "statistics-file", options->statistics_file);
    check_path(options, "link", options->link);
    if (!options->check_upgrade)
        check_addresses(options);
    if (options->mistakes > 0) {
        fprintf(stderr, "relayhubd: %s: %u mistake%s\n", path, options->mistakes, options->mistakes == 1 ? "" : "s");
        return EX_USAGE;
    }
    printf("relayhubd: %s: no mistakes\n", path);
    if (options->check_upgrade)
        printf(UPGRADE_WORDS, PACKAGE_VERSION, SAVED_FORM, SAVED_FORM);
    return EX_OK;
}
