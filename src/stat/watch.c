/* watch.c: see watch.h. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "stat/watch.h"

#include "stat/show.h"

#include <sysexits.h>

#ifdef HAVE_NCURSES

#include <curses.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What rates are made of: the sums at one moment. */
struct moment {
    uint64_t when; /* milliseconds */
    uint64_t messages, deliveries, undelivered, bytes_in, bytes_out, accepted;
};

static volatile sig_atomic_t ended;

static void note_end(int number)
{
    (void)number;
    ended = 1;
}

static struct moment take(const struct reader *reader)
{
    return (struct moment){
        .when = reader->taken,
        .messages = reader_workers(reader, "messages"),
        .deliveries = reader_workers(reader, "deliveries"),
        .undelivered = reader_workers(reader, "undelivered"),
        .bytes_in = reader_workers(reader, "bytes_in"),
        .bytes_out = reader_workers(reader, "bytes_out"),
        .accepted = reader_hub(reader, "accepted"),
    };
}

/* A number in at most five columns: 99999, 9.9M, 999M. */
static const char *brief(uint64_t value, char text[16])
{
    static const char units[] = " KMGTPE";
    double shown = (double)value;
    int unit = 0;

    for (; shown >= (unit == 0 ? 100000 : 999.5) && units[unit + 1] != '\0'; unit++)
        shown /= 1000;
    if (unit == 0)
        snprintf(text, 16, "%" PRIu64, value);
    else
        snprintf(text, 16, shown < 9.95 ? "%.1f%c" : "%.0f%c", shown, units[unit]);
    return text;
}

static uint64_t rate(uint64_t now, uint64_t before, double gone)
{
    return now > before && gone > 0 ? (uint64_t)((double)(now - before) / gone + 0.5) : 0;
}

/* A line of the screen, as much as there is room for. */
__attribute__((format(printf, 2, 3))) static void put(int line, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mvprintw(line, 0, "%.*s", COLS, text);
}

/* ---- the parts of the screen; each returns the line after it ---- */

static int draw_hub(const struct reader *reader, const struct moment *now, const struct moment *before)
{
    char a[16], b[16], c[16], d[16], e[16], f[16];
    double gone = (double)(now->when - before->when) / 1000;
    uint64_t up = reader_hub(reader, "uptime") / 1000;
    uint64_t used = reader_workers(reader, "store_blocks_used"), blocks = reader_hub(reader, "store_blocks");

    if (reader_stands_still(reader))
        put(4, "the hub stands still: its master was last seen at work %" PRIu64 " seconds ago",
            reader_hub(reader, "silent") / 1000);
    put(0, "%s  pid %" PRIu64 "  up %" PRIu64 "d %02u:%02u:%02u", reader->header.program, reader_hub(reader, "pid"),
        up / 86400, (unsigned)(up / 3600 % 24), (unsigned)(up / 60 % 60), (unsigned)(up % 60));
    put(1, "clients %" PRIu64 " of %" PRIu64 "   new %s/s   workers %" PRIu64 " of %u   deaths %" PRIu64,
        reader_clients(reader), reader_hub(reader, "connections_most"),
        brief(rate(now->accepted, before->accepted, gone), a), reader_hub(reader, "workers_ready"),
        reader->header.workers, reader_hub(reader, "worker_deaths"));
    put(2, "messages %s/s   deliveries %s/s   undelivered %s/s   in %sB/s   out %sB/s",
        brief(rate(now->messages, before->messages, gone), b),
        brief(rate(now->deliveries, before->deliveries, gone), c),
        brief(rate(now->undelivered, before->undelivered, gone), d),
        brief(rate(now->bytes_in, before->bytes_in, gone), e), brief(rate(now->bytes_out, before->bytes_out, gone), f));
    put(3, "store %u%% of %" PRIu64 " MiB   congested %" PRIu64 "   waiting for the store %" PRIu64,
        per_cent(used, blocks), blocks / 256, reader_workers(reader, "congested"),
        reader_workers(reader, "waiting_for_store"));
    return 5;
}

static uint64_t of_worker(const struct reader *reader, const char *name, uint32_t worker)
{
    struct statistics_field field = reader_find(reader, PART_WORKER, name);
    return reader_value(reader, &field, worker, 0);
}

static int draw_workers(const struct reader *reader, int line)
{
    struct statistics_field pid = reader_find(reader, PART_HUB, "worker_pid");
    struct statistics_field starts = reader_find(reader, PART_HUB, "worker_generation");
    char a[16], b[16], c[16], d[16], e[16];

    attron(A_REVERSE);
    put(line++, "%-6s %8s %6s %8s %8s %8s %8s %9s %8s", "WORKER", "PID", "STARTS", "CLIENTS", "BLOCKS", "CONGEST",
        "TURNS", "TURN p99", "MOST us");
    attroff(A_REVERSE);
    for (uint32_t i = 0; i < reader->header.workers && line < LINES - 4; i++)
        put(line++, "%-6u %8" PRIu64 " %6" PRIu64 " %8s %8s %8s %8s %9" PRIu64 " %8s", i,
            reader_value(reader, &pid, 0, i), reader_value(reader, &starts, 0, i),
            brief(of_worker(reader, "connections", i), a), brief(of_worker(reader, "store_blocks_used", i), b),
            brief(of_worker(reader, "congested", i), c), brief(of_worker(reader, "turns", i), d),
            show_quantile(reader, "turn_time", i, 99), brief(show_quantile(reader, "turn_time", i, 100), e));
    return line + 1;
}

/* A text at the right of its columns. Where it does not fit, nothing after it does either. */
static int put_cell(int line, int column, int width, const char *text)
{
    if (column + 1 + width > COLS)
        return COLS;
    mvprintw(line, column, " %*s", width, text);
    return column + 1 + width;
}

static int value_width(const char *name, uint32_t kind)
{
    int length = (int)strlen(name), least = kind == KIND_TIME ? 19 : 5;
    return length > least ? length : least;
}

static const char *value_text(uint32_t kind, uint64_t value, char text[NUMBER_TEXT])
{
    return kind == KIND_TIME ? show_value(kind, value, text) : brief(value, text);
}

/* A node, or with NULL the names: those of the text form, in its order, as many as the screen has columns for. */
static void draw_node(const struct reader *reader, const struct nodes *nodes, const struct node *node, int line)
{
    const struct link_peer *link = node == NULL ? NULL : node->link;
    struct statistics_field field;
    char text[NUMBER_TEXT] = "other node", name[40];
    int column = 10;

    if (node != NULL)
        snprintf(text, sizeof text, "%u", node->number);
    put(line, "%s", text);
    for (uint32_t index = 0; nodes_next(reader, &index, &field);) {
        const char *shown = node == NULL   ? field.name
                            : node->in_hub ? value_text(field.kind, nodes_value(reader, &field, node->number), text)
                                           : "-";
        column = put_cell(line, column, value_width(field.name, field.kind), shown);
    }
    for (unsigned k = 0; k < LINK_VALUES && nodes->link_runs; k++) {
        uint32_t kind = link_values[k].kind;
        snprintf(name, sizeof name, "link_%s", link_values[k].name);
        const char *shown = node == NULL                     ? name
                            : link != NULL && link->known[k] ? value_text(kind, link->values[k], text)
                                                             : "-";
        column = put_cell(line, column, value_width(name, kind), shown);
    }
}

/* Those for which there is room above a client, as of the workers. */
static int draw_nodes(const struct reader *reader, const struct nodes *nodes, int line)
{
    const int end = LINES - (nodes->link_runs ? 4 : 5);

    if (!nodes->any || line + 1 >= end)
        return line;
    if (nodes->count == 0) {
        put(line++, "other node none is known");
    } else {
        attron(A_REVERSE);
        draw_node(reader, nodes, NULL, line++);
        attroff(A_REVERSE);
    }
    for (unsigned i = 0; i < nodes->count && line < end; i++)
        draw_node(reader, nodes, &nodes->node[i], line++);
    if (!nodes->link_runs) {
        put(line++, "the link does not run: %s: %s", nodes->link_path, nodes->link_reason);
    }
    return line + 1;
}

static void draw_clients(const struct reader *reader, const struct clients *clients, enum client_order order, int line)
{
    char address[CLIENT_ADDRESS], state[CLIENT_STATE], a[16], b[16], c[16];

    attron(A_REVERSE);
    put(line++, "%-20s %-21s %2s %6s %6s %6s %-12s", "CLIENT", "ADDRESS", "W", "QUEUED", "IN/s", "OUT/s", "STATE");
    attroff(A_REVERSE);
    for (uint32_t i = 0; i < clients->count && line < LINES - 1; i++) {
        const struct client_sample *sample = &clients->samples[i];
        put(line++, "%-20" PRIu64 " %-21.21s %2u %6s %6s %6s %s", sample->id,
            clients_address(reader, sample->place, address), clients_worker(reader, sample->place),
            brief(sample->queued, a), brief(sample->in_rate, b), brief(sample->out_rate, c),
            clients_state(reader, sample->place, state));
    }
    put(LINES - 1, "sorted by %s   keys: s other order, q quit", clients_orders[order]);
}

/* ---- the loop ---- */

struct screen {
    const char *path, *link_path;
    bool connected; /* the last time: what follows is of that hub */
    struct moment before;
    struct clients clients;
    enum client_order order;
};

static void draw_all(struct screen *screen, const struct reader *reader)
{
    struct moment now = take(reader);
    struct clients clients;
    struct nodes nodes;

    if (!screen->connected)
        screen->before = now;
    if (clients_take(&clients, reader, &screen->clients, screen->order)) {
        clients_free(&screen->clients);
        screen->clients = clients;
    }
    nodes_take(&nodes, reader, screen->link_path);
    int line = draw_workers(reader, draw_hub(reader, &now, &screen->before));
    line = draw_nodes(reader, &nodes, line);
    draw_clients(reader, &screen->clients, screen->order, line);
    screen->before = now;
}

/* The file is opened each time, since the hub may be gone, perhaps for a successor. */
static void draw(struct screen *screen)
{
    char reason[READER_REASON];
    struct reader reader;
    bool connected = reader_open(&reader, screen->path, true, reason);

    erase();
    if (connected) {
        draw_all(screen, &reader);
        reader_close(&reader);
    } else {
        put(0, "%s", reason);
        clients_free(&screen->clients);
    }
    screen->connected = connected;
    refresh();
}

/* The signals that end it come only while a key is waited for, with the mask *waiting. */
static void set_signals(sigset_t *waiting)
{
    const int ends[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = note_end}, before;
    sigset_t blocked;

    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        sigaction(ends[i], &action, &before);
        if (before.sa_handler == SIG_IGN)
            sigaction(ends[i], &before, NULL); /* as whoever started this wants it */
        sigaddset(&blocked, ends[i]);
    }
    sigaddset(&blocked, SIGWINCH); /* of ncurses */
    sigprocmask(SIG_BLOCK, &blocked, waiting);
}

/* A key, or ERR after the interval, another size or a signal. False when the terminal is gone, with or without a word.
 */
static bool await_key(double interval, const sigset_t *signals, int *key)
{
    struct pollfd pollers[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = STDOUT_FILENO}};
    struct timespec time = {(time_t)interval, (long)((interval - (double)(time_t)interval) * 1e9)};

    *key = getch(); /* ncurses may have one already */
    if (*key != ERR || ended)
        return true;
    int ready = ppoll(pollers, 2, &time, signals);
    *key = getch();
    return ready <= 0 || (pollers[1].revents == 0 && *key != ERR);
}

int watch_run(const char *path, const char *link_path, double interval, enum client_order order)
{
    struct screen screen = {.path = path, .link_path = link_path, .order = order};
    char reason[READER_REASON];
    struct reader reader;

    if (!reader_open(&reader, path, false, reason)) {
        fprintf(stderr, "relayhub-stat: %s\n", reason);
        return EX_UNAVAILABLE;
    }
    reader_close(&reader);
    if (!isatty(STDOUT_FILENO)) {
        fputs("relayhub-stat: --watch needs a terminal\n", stderr);
        return EX_USAGE;
    }
    if (newterm(NULL, stdout, stdin) == NULL) {
        fputs("relayhub-stat: --watch: the terminal named by TERM is not known\n", stderr);
        return EX_UNAVAILABLE;
    }
    sigset_t waiting;
    set_signals(&waiting);
    cbreak();
    noecho();
    curs_set(0);
    nodelay(stdscr, TRUE);
    int key = ERR;
    bool there;
    do {
        if (key == 's')
            screen.order = (enum client_order)((screen.order + 1) % CLIENT_ORDERS);
        draw(&screen);
        there = await_key(interval, &waiting, &key);
    } while (there && key != 'q' && !ended);
    endwin();
    clients_free(&screen.clients);
    if (!there)
        fputs("relayhub-stat: the terminal is gone\n", stderr);
    return there ? EX_OK : EX_IOERR;
}

#else

int watch_run(const char *path, const char *link_path, double interval, enum client_order order)
{
    (void)path, (void)link_path, (void)interval, (void)order;
    fputs("relayhub-stat: --watch: it was built without ncurses\n", stderr);
    return EX_UNAVAILABLE;
}

#endif
