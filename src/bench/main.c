/* main.c: relayhub-bench: runs the mode that the command line names, and prints its result. */
#include "bench/fail.h"
#include "bench/modes.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/settings.h"
#include "standard_fds.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static struct histogram latency;
    static struct options options;
    struct result result = {.options = &options};
    standard_fds_fill();
    signal(SIGPIPE, SIG_IGN);
    options_read(argc, argv, &options);
    if (strcmp(options.mode, "latency") == 0 || strcmp(options.mode, "crowd") == 0 ||
        strcmp(options.mode, "isolation") == 0)
        result.latency = &latency;
    if (strcmp(options.mode, "connect") == 0)
        crowd_connect(&options, &result);
    else if (strcmp(options.mode, "idle") == 0)
        crowd_idle(&options, &result);
    else if (strcmp(options.mode, "crowd") == 0)
        crowd_pairs(&options, &result);
    else if (strcmp(options.mode, "isolation") == 0)
        isolation_run(&options, &result);
    else
        load_run(&options, &result);
    report_print(&result);
    free(result.isolation.by_second);
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write the result: %s", strerror(errno));
    return EXIT_SUCCESS;
}
