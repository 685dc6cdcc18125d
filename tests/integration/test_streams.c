/*
 * test_streams.c: standard input, output and error as rough surroundings hand them over: closed, non-blocking, full,
 * or without anybody at the other end.
 */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define CLOSED (-1)
#define MASKS 8 /* which of the three are closed: all combinations */

static struct hub hub;
static struct client other; /* a client that is there already */
static char place[32];      /* the hub's address */

static void set_up(void)
{
    hub_start(&hub, 1, NULL);
    client_open(&other, &hub);
    snprintf(place, sizeof place, "127.0.0.1:%d", hub.port);
    setenv("RELAYHUB_HUB", place, 1);
}

static void tear_down(void)
{
    client_close(&other);
    hub_stop(&hub);
}

/* ---- programs with any three descriptors ---- */

static void take_descriptors(const int fds[3])
{
    int copies[3];

    for (int i = 0; i < 3; i++) /* out of the way of each other */
        copies[i] = fds[i] == CLOSED ? CLOSED : fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
    for (int i = 0; i < 3; i++) {
        close(i);
        if (copies[i] != CLOSED)
            dup2(copies[i], i);
    }
}

/* The arguments are words with a space between them. */
static pid_t start(const char *variable, const int fds[3], const char *arguments)
{
    char words[400], *vector[32] = {getenv(variable)};
    int used = 1;

    ck_assert_msg(vector[0] != NULL, "%s does not name the program", variable);
    snprintf(words, sizeof words, "%s", arguments);
    for (char *word = strtok(words, " "); word != NULL && used < 31; word = strtok(NULL, " "))
        vector[used++] = word;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        take_descriptors(fds);
        execv(vector[0], vector);
        _exit(127);
    }
    return pid;
}

/* The program has to end by itself, with this status. */
static void expect_status(pid_t pid, int wanted, const char *what)
{
    int64_t end = now_ms() + patient(PATIENCE);
    int status;

    while (waitpid(pid, &status, WNOHANG) != pid) {
        if (now_ms() > end) {
            kill(pid, SIGKILL);
            ck_abort_msg("%s does not end", what);
        }
        poll(NULL, 0, 10);
    }
    ck_assert_msg(WIFEXITED(status), "%s: signal %d", what, WTERMSIG(status));
    ck_assert_msg(WEXITSTATUS(status) == wanted, "%s: status %d instead of %d", what, WEXITSTATUS(status), wanted);
}

static int open_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void make_pipe(int ends[2])
{
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
}

/* Reads up to the end of a pipe, with pauses at first so that its writer has to wait, and closes it. */
static size_t read_slowly(int fd, char *bytes, size_t room)
{
    size_t length = 0;
    ssize_t got;

    for (int reads = 0; (got = read(fd, bytes + length, room - length)) > 0; reads++) {
        length += (size_t)got;
        if (reads < 10)
            poll(NULL, 0, 20);
    }
    ck_assert_int_eq(got, 0);
    close(fd);
    return length;
}

/* Reads a line, and cuts it before its newline. */
static void read_line(int fd, char line[100])
{
    size_t length = 0;

    do {
        ck_assert_int_eq(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, patient(PATIENCE)), 1);
        ck_assert_int_eq(read(fd, line + length, 1), 1);
    } while (line[length++] != '\n' && length < 99);
    line[length - 1] = '\0';
}

/* Reads the line "id ID" that listen and chat start with. */
static uint64_t read_id(int fd)
{
    char line[100];

    read_line(fd, line);
    ck_assert_int_eq(strncmp(line, "id ", 3), 0);
    return strtoull(line + 3, NULL, 10);
}

static void expect_nobody_else(void)
{
    int64_t end = now_ms() + patient(PATIENCE);
    size_t count;

    do {
        free(client_list(&other, &count));
    } while (count > 0 && now_ms() < end);
    ck_assert_uint_eq(count, 0);
}

/* ---- closed ---- */

/* Descriptors of /dev/null, but those in the mask are closed. */
static void close_some(int fds[3], int null, int mask)
{
    for (int i = 0; i < 3; i++)
        fds[i] = mask >> i & 1 ? CLOSED : null;
}

START_TEST(test_commands_with_closed_descriptors)
{
    char send[64], text[100] = "";
    int fds[3], null = open_null(), ends[2];
    struct frame frame;
    bool no_output = _i & 2, no_error = _i & 4;

    close_some(fds, null, _i);
    snprintf(send, sizeof send, "send %llu hello", (unsigned long long)other.id);
    expect_status(start("RELAYHUB", fds, send), EX_OK, send);
    client_receive(&other, &frame);
    ck_assert_int_eq(frame.type, FRAME_MESSAGE);
    ck_assert_uint_eq(frame.length, 5);
    expect_nothing(&other);
    expect_status(start("RELAYHUB", fds, "list"), no_output ? EX_IOERR : EX_OK, "list");

    make_pipe(ends); /* what is left of the output says the right thing */
    close_some(fds, ends[1], _i);
    expect_status(start("RELAYHUB", fds, "send 1 hello"), 1, "send to nobody");
    close(ends[1]);
    ck_assert_int_ge(read(ends[0], text, sizeof text - 1), 0);
    ck_assert_str_eq(text, no_error ? "" : "relayhub: 1 was not reached\n");
    close(ends[0]);
    close(null);
}
END_TEST

START_TEST(test_chat_without_input)
{
    int null = open_null();
    int fds[3] = {CLOSED, null, null};

    expect_status(start("RELAYHUB", fds, "chat"), EX_NOINPUT, "chat");
    expect_nobody_else();
    close(null);
}
END_TEST

static const char *const without_output[] = {"id", "chat", "listen", "listen --format json", "listen --format raw"};

/* None waits for a message that it could not print. */
START_TEST(test_nothing_is_received_without_output)
{
    int null = open_null();
    int fds[3] = {null, CLOSED, null};

    expect_status(start("RELAYHUB", fds, without_output[_i]), EX_IOERR, without_output[_i]);
    expect_nobody_else();
    close(null);
}
END_TEST

/* Its id goes to standard error, and nobody can send to it without. */
START_TEST(test_raw_listener_without_standard_error)
{
    int null = open_null();
    int fds[3] = {null, null, CLOSED};

    expect_status(start("RELAYHUB", fds, "listen --format raw"), EX_IOERR, "listen --format raw");
    close(null);
}
END_TEST

/* What the program opened has other numbers. */
static void expect_standard_descriptors(pid_t pid)
{
    for (int fd = 0; fd < 3; fd++) {
        char link[64], target[64] = "";
        snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, fd);
        ck_assert_int_gt(readlink(link, target, sizeof target - 1), 0);
        ck_assert_str_eq(target, "/dev/null");
    }
}

START_TEST(test_benchmark_with_closed_descriptors)
{
    int fds[3], null = open_null();
    size_t count;

    close_some(fds, null, _i);
    pid_t pid = start("RELAYHUB_BENCH", fds, "--seconds 0.05 --warm-up 0 --count 1000 throughput");
    expect_status(pid, _i & 2 ? 1 : 0, "relayhub-bench"); /* 1: it could not print the result */
    expect_nobody_else();                                 /* so that who comes now is the next one */
    pid = start("RELAYHUB_BENCH", fds, "--senders 1 --rate 10 --warm-up 0 --seconds 60 latency");
    do
        free(client_list(&other, &count));
    while (count == 0);
    expect_standard_descriptors(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(null);
}
END_TEST

START_TEST(test_hub_with_closed_descriptors)
{
    char pid_file[] = "/tmp/relayhub-streams-XXXXXX", arguments[200];
    int fds[3], null = open_null(), file = mkstemp(pid_file);
    int64_t end = now_ms() + patient(PATIENCE);

    close_some(fds, null, _i);
    snprintf(arguments, sizeof arguments, "--foreground --listen 127.0.0.1:0 --workers 1 --pid-file %s", pid_file);
    pid_t pid = start("RELAYHUBD", fds, arguments);
    while (lseek(file, 0, SEEK_END) == 0 && now_ms() < end) /* written once all is open */
        poll(NULL, 0, 10);
    expect_standard_descriptors(pid);
    kill(pid, SIGTERM);
    expect_status(pid, EX_OK, "relayhubd");
    close(file);
    close(null);
}
END_TEST

/* ---- non-blocking ---- */

#define LARGE 400000u

static void set_nonblocking(int fd)
{
    ck_assert_int_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* Three messages that are more than the pipe holds. */
START_TEST(test_output_that_does_not_block)
{
    static char body[LARGE], seen[4 * LARGE];
    int ends[2], errors[2], null = open_null();

    make_pipe(ends);
    make_pipe(errors);
    set_nonblocking(ends[1]);
    int fds[3] = {null, ends[1], errors[1]};
    pid_t pid = start("RELAYHUB", fds, "listen --format raw --count 3");
    close(ends[1]);
    uint64_t id = read_id(errors[0]);
    for (int i = 0; i < 3; i++) {
        memset(body, 'a' + i, sizeof body);
        client_message(&other, &id, 1, body, sizeof body);
    }
    ck_assert_uint_eq(read_slowly(ends[0], seen, sizeof seen), 3 * LARGE);
    for (int i = 0; i < 3; i++) {
        memset(body, 'a' + i, sizeof body);
        ck_assert_mem_eq(seen + (size_t)i * LARGE, body, LARGE);
    }
    expect_status(pid, EX_OK, "listen");
    close(errors[0]);
    close(errors[1]);
    close(null);
}
END_TEST

/* As many lines as a message has receivers, into a pipe of one page. */
START_TEST(test_error_output_that_does_not_block)
{
    static char text[1 << 16];
    char arguments[400] = "send 1000001", *at = text;
    int ends[2], null = open_null();

    make_pipe(ends);
    set_nonblocking(ends[1]);
    ck_assert_int_eq(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
    for (int receiver = 2; receiver <= 40; receiver++)
        sprintf(arguments + strlen(arguments), ",%d", 1000000 + receiver);
    char filler[4000] = {0}; /* all but the first lines have to wait */
    ck_assert_int_eq(write(ends[1], filler, sizeof filler), sizeof filler);
    int fds[3] = {null, null, ends[1]};
    pid_t pid = start("RELAYHUB", fds, strcat(arguments, " hello"));
    close(ends[1]);
    poll(NULL, 0, 300); /* it runs into the full pipe */
    size_t length = read_slowly(ends[0], text, sizeof text - 1);
    ck_assert_uint_gt(length, sizeof filler);
    at += sizeof filler;
    for (int receiver = 1; receiver <= 40; receiver++) {
        char line[64];
        int size = snprintf(line, sizeof line, "relayhub: %d was not reached\n", 1000000 + receiver);
        ck_assert_msg(strncmp(at, line, (size_t)size) == 0, "\"%.40s\" instead of \"%s\"", at, line);
        at += size;
    }
    expect_status(pid, 1, "send");
    close(null);
}
END_TEST

/* A body that comes in pieces, with pauses in which there is nothing to read. */
START_TEST(test_input_that_does_not_block)
{
    static char piece[30000];
    char arguments[64];
    int ends[2], null = open_null();
    struct frame frame;

    make_pipe(ends);
    set_nonblocking(ends[0]);
    int fds[3] = {ends[0], null, null};
    snprintf(arguments, sizeof arguments, "send %llu -", (unsigned long long)other.id);
    pid_t pid = start("RELAYHUB", fds, arguments);
    close(ends[0]);
    for (int i = 0; i < 4; i++) {
        poll(NULL, 0, 100);
        memset(piece, 'a' + i, sizeof piece);
        ck_assert_int_eq(write(ends[1], piece, sizeof piece), sizeof piece);
    }
    close(ends[1]);
    expect_status(pid, EX_OK, "send");
    client_receive(&other, &frame);
    ck_assert_uint_eq(frame.length, 4 * sizeof piece);
    ck_assert_mem_eq(frame.body + 3 * sizeof piece, piece, sizeof piece);
    close(null);
}
END_TEST

/* ---- nobody at the other end ---- */

/* Starts listen or chat with a pipe to write to and, for chat, one to read from that stays open. */
static pid_t start_with_reader(const char *command, int *output, int *input, uint64_t *id)
{
    int ends[2], inputs[2], null = open_null();

    make_pipe(ends);
    make_pipe(inputs);
    int fds[3] = {inputs[0], ends[1], null};
    pid_t pid = start("RELAYHUB", fds, command);
    close(ends[1]);
    close(inputs[0]);
    close(null);
    *output = ends[0];
    *input = inputs[1];
    *id = read_id(ends[0]);
    return pid;
}

static const char *const receiving[] = {"listen", "chat"};

/* It ends, and at once: no message has to come, and none is taken that it could not print. */
START_TEST(test_reader_that_goes_while_nothing_is_printed)
{
    int output, input;
    uint64_t id;

    pid_t pid = start_with_reader(receiving[_i], &output, &input, &id);
    close(output);
    expect_status(pid, EX_IOERR, receiving[_i]);
    expect_nobody_else();
    client_message(&other, &id, 1, "late", 4);
    expect_undelivered(&other, id, 0);
    close(input);
}
END_TEST

/* It ends with a status as well, not by a signal, when the reader goes in the middle of what is printed. */
START_TEST(test_reader_that_goes_while_much_is_printed)
{
    static char body[LARGE];
    int output, input;
    uint64_t id;

    pid_t pid = start_with_reader(receiving[_i], &output, &input, &id);
    memset(body, 'x', sizeof body);
    client_message(&other, &id, 1, body, sizeof body);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = output, .events = POLLIN}, 1, patient(PATIENCE)), 1);
    close(output);
    expect_status(pid, EX_IOERR, receiving[_i]);
    close(input);
}
END_TEST

static const char *const printing[] = {"--help", "--version", "id", "list", "listen --count 1", "chat"};

START_TEST(test_full_output_is_said)
{
    char text[200] = "";
    int ends[2], null = open_null(), full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    make_pipe(ends);
    ck_assert_int_ge(full, 0);
    int fds[3] = {null, full, ends[1]};
    expect_status(start("RELAYHUB", fds, printing[_i]), EX_IOERR, printing[_i]);
    close(ends[1]);
    ck_assert_int_gt(read(ends[0], text, sizeof text - 1), 0);
    ck_assert_str_eq(text, "relayhub: cannot write to standard output: No space left on device\n");
    close(ends[0]);
    close(full);
    close(null);
}
END_TEST

/* ---- what chat reads ---- */

/* Gives chat this input, and checks its status. */
static void chat_with(const char *input, int status)
{
    int ends[2], null = open_null();

    make_pipe(ends);
    int fds[3] = {ends[0], null, null};
    pid_t pid = start("RELAYHUB", fds, "chat");
    close(ends[0]);
    ck_assert_int_eq(write(ends[1], input, strlen(input)), (ssize_t)strlen(input));
    close(ends[1]);
    expect_status(pid, status, "chat");
    close(null);
}

static void expect_body(const char *text)
{
    struct frame frame;

    client_receive(&other, &frame);
    ck_assert_int_eq(frame.type, FRAME_MESSAGE);
    ck_assert_uint_eq(frame.length, strlen(text));
    ck_assert_mem_eq(frame.body, text, frame.length);
}

START_TEST(test_chat_takes_lines_that_end_in_cr_lf)
{
    char input[200];

    snprintf(input, sizeof input, "/to %llu\r\nfirst\r\n\r\na\rb\r\r\n//x\r\n/quit\r\nnever\r\n",
             (unsigned long long)other.id);
    chat_with(input, EX_OK);
    expect_body("first");
    expect_body("a\rb\r"); /* one CR belongs to the end, others do not */
    expect_body("/x");
    expect_nothing(&other);
}
END_TEST

START_TEST(test_chat_status_says_that_a_line_was_refused)
{
    chat_with("to nobody\n", EX_USAGE);
    chat_with("/frobnicate\n", EX_USAGE);
    chat_with("/to me\n/id\n", EX_USAGE);
}
END_TEST

/* The longest line with the longest end, one byte more, and one that is not even buffered. */
START_TEST(test_chat_line_of_any_length)
{
    static char line[FRAME_MAX_BODY + 100];
    static const struct {
        unsigned more; /* bytes over the maximum */
        int status;
    } cases[] = {{0, EX_OK}, {1, EX_DATAERR}, {50, EX_DATAERR}};
    int ends[2], null = open_null();
    struct frame frame;

    make_pipe(ends);
    int fds[3] = {ends[0], null, null};
    pid_t pid = start("RELAYHUB", fds, "chat");
    close(ends[0]);
    memset(line, 'x', sizeof line);
    signal(SIGPIPE, SIG_IGN); /* chat ends before it has read it all */
    dprintf(ends[1], "/to %llu\r\n", (unsigned long long)other.id);
    dprintf(ends[1], "%.*s\r\n", (int)(FRAME_MAX_BODY + cases[_i].more), line);
    close(ends[1]);
    expect_status(pid, cases[_i].status, "chat");
    if (cases[_i].status == EX_OK) {
        client_receive(&other, &frame);
        ck_assert_uint_eq(frame.length, FRAME_MAX_BODY);
    }
    expect_nothing(&other);
    close(null);
}
END_TEST

#define SIZE_OF(array) (int)(sizeof(array) / sizeof *(array))

static void add_closed(TCase *tests)
{
    tcase_add_loop_test(tests, test_commands_with_closed_descriptors, 0, MASKS);
    tcase_add_test(tests, test_chat_without_input);
    tcase_add_loop_test(tests, test_nothing_is_received_without_output, 0, SIZE_OF(without_output));
    tcase_add_test(tests, test_raw_listener_without_standard_error);
    tcase_add_loop_test(tests, test_benchmark_with_closed_descriptors, 0, MASKS);
    tcase_add_loop_test(tests, test_hub_with_closed_descriptors, 0, MASKS);
}

int main(void)
{
    TCase *tests = tcase_create("streams");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    if (getenv("RELAYHUB_WRAPPER") == NULL) /* valgrind takes the closed ones for itself before the program runs */
        add_closed(tests);
    tcase_add_test(tests, test_output_that_does_not_block);
    tcase_add_test(tests, test_error_output_that_does_not_block);
    tcase_add_test(tests, test_input_that_does_not_block);
    tcase_add_loop_test(tests, test_reader_that_goes_while_nothing_is_printed, 0, SIZE_OF(receiving));
    tcase_add_loop_test(tests, test_reader_that_goes_while_much_is_printed, 0, SIZE_OF(receiving));
    tcase_add_loop_test(tests, test_full_output_is_said, 0, SIZE_OF(printing));
    tcase_add_test(tests, test_chat_takes_lines_that_end_in_cr_lf);
    tcase_add_test(tests, test_chat_status_says_that_a_line_was_refused);
    tcase_add_loop_test(tests, test_chat_line_of_any_length, 0, 3);
    return run_case(tests, "streams");
}
