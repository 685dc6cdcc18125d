/* main.c: relayhubd(8): reads the options, goes to the background if it shall, and runs the master. */
#include "hub/common/log.h"
#include "hub/common/title.h"
#include "hub/master/check.h"
#include "hub/master/inherited.h"
#include "hub/master/master.h"
#include "hub/master/options.h"
#include "hub/master/upgrade.h"
#include "standard_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

static struct {
    int argc;
    char **argv;
} arguments;

static bool reread(struct options *options)
{
    char reason[REASON_TEXT];
    if (options_read(options, arguments.argc, arguments.argv, reason) == OPTIONS_RUN)
        return true;
    log_line(LOG_ERR, "configuration not reread: %s", reason);
    return false;
}

/* Says which file counts, because one that stands elsewhere is ignored. */
static void note_configuration(const struct options *options)
{
    if (options->config[0] != '\0')
        log_line(LOG_NOTICE, "configuration: %s", options->config);
    else
        log_line(LOG_NOTICE, "configuration: there is no %s", OPTIONS_DEFAULT_CONFIG);
}

/* In the starting process: waits until the daemon is ready, or has failed with a status. */
static int wait_until_ready(pid_t daemon, int ready)
{
    char byte;
    int status;

    if (read(ready, &byte, 1) == 1)
        return EX_OK;
    if (waitpid(daemon, &status, 0) == daemon && WIFEXITED(status) && WEXITSTATUS(status) != EX_OK)
        return WEXITSTATUS(status);
    return EX_SOFTWARE;
}

static void leave_terminal(void)
{
    setsid();
    if (chdir("/") < 0)
        log_line(LOG_WARNING, "cannot change to /: %s", strerror(errno));
    /* Standard error stays open until the hub is ready, for errors of the start. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO && null >= 0; fd++)
        dup2(null, fd);
    close(null);
}

/* The program before has executed this one: it goes on with its clients, in the foreground or where it was. */
static int go_on(struct options *options, const char *variable)
{
    static struct legacy legacy;
    char reason[REASON_TEXT];
    const char *mistake = legacy_read(&legacy, variable);
    unsetenv(LEGACY_VARIABLE);
    enum options_result result = options_read(options, arguments.argc, arguments.argv, reason);

    log_open(result != OPTIONS_RUN || options->foreground, options->limits.verbose);
    title_set("master");
    if (mistake != NULL) {
        log_line(LOG_ERR, "upgrade: cannot take the clients over: %s", mistake);
        upgrade_go_back(&legacy);
        return EX_DATAERR;
    }
    if (result != OPTIONS_RUN) {
        log_line(LOG_ERR, "upgrade: %s", reason);
        upgrade_go_back(&legacy);
        return EX_USAGE;
    }
    if (!options->foreground) {
        leave_terminal();
        log_leave_terminal();
    }
    note_configuration(options);
    return master_run(options, reread, -1, &legacy);
}

int main(int argc, char *argv[])
{
    static struct options options;
    char reason[REASON_TEXT];
    int ready[2];

    const char *upgrade = getenv(LEGACY_VARIABLE);
    standard_fds_fill();
    inherited_set_right(upgrade != NULL);
    arguments.argc = argc;
    arguments.argv = argv = title_open(argc, argv);
    upgrade_note_program(argv);
    if (upgrade != NULL)
        return go_on(&options, upgrade);
    switch (options_read(&options, argc, argv, reason)) {
    case OPTIONS_EXIT:
        return EX_OK;
    case OPTIONS_CHECK:
        return check_run(&options);
    case OPTIONS_BAD:
        fprintf(stderr, "relayhubd: %s\n", reason);
        return EX_USAGE;
    case OPTIONS_RUN:
        break;
    }
    inherited_close_rest();
    log_open(options.foreground, options.limits.verbose);
    title_set("master");
    note_configuration(&options);
    if (options.foreground)
        return master_run(&options, reread, -1, NULL);

    if (pipe2(ready, O_CLOEXEC) < 0)
        return EX_OSERR;
    pid_t daemon = fork();
    if (daemon < 0) {
        fprintf(stderr, "relayhubd: cannot fork: %s\n", strerror(errno));
        return EX_OSERR;
    }
    if (daemon > 0) {
        close(ready[1]);
        return wait_until_ready(daemon, ready[0]);
    }
    close(ready[0]);
    leave_terminal();
    return master_run(&options, reread, ready[1], NULL);
}
