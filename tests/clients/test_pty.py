"""test_pty.py RELAYHUB RELAYHUB_STAT HUB STATISTICS: these programs at a terminal; see test_pty.sh."""
import fcntl, os, pty, re, select, signal, socket, struct, subprocess, sys, termios, threading, time

relayhub, relayhub_stat, hub, statistics = sys.argv[1:]
CHAT = [relayhub, '--hub', hub, 'chat']
WATCH = [relayhub_stat, '--file', statistics, '--watch', '--interval', '60']
LISTEN = [relayhub, '--hub', hub, 'listen']
LIMIT = 30  # seconds until a process that does not end is a failure


class Terminal:
    """A program at a terminal of its own, which shows what comes until it is told not to."""

    def __init__(self, command, controlling=True):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.text, self.size, self.shows = b'', 0, True

        def begin():
            os.setsid()
            if controlling:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=begin,
                                        env=dict(os.environ, TERM='xterm', INPUTRC='/dev/null'))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while self.shows:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    came = os.read(self.master, 1 << 16)
                except OSError:
                    break
                self.size += len(came)
                self.text = (self.text + came)[-100000:]

    def await_text(self, pattern):
        found = wait_until(lambda: re.search(pattern, self.text))
        if not found:
            self.fail('does not show %r' % pattern)
        return found

    def type(self, keys):
        os.write(self.master, keys)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def hang_up(self):
        self.shows = False
        self.reader.join()
        os.close(self.slave)
        os.close(self.master)

    def await_end(self, what):
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.fail('does not end after ' + what)

    def fail(self, what):
        sys.exit('FAIL: %s %s: %r' % (' '.join(self.process.args), what, self.text[-300:]))


def wait_until(condition):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    return None


def start_chat():
    """A chat that waits for keys, and its id."""
    terminal = Terminal(CHAT)
    number = int(terminal.await_text(rb'\bid (\d+)').group(1))
    if not wait_until(terminal.is_raw):
        sys.exit(77)  # it was built without readline
    return terminal, number


def message(receiver, body):
    return struct.pack('>IQ', 3 << 29 | 1 << 21 | len(body), receiver) + body


def connect():
    host, port = hub.rsplit(':', 1)
    return socket.create_connection((host, int(port)), LIMIT)


def flood(receiver, over):
    """Sends small messages as fast as it can."""
    with connect() as client:
        block = message(receiver, b'%016d' % 0) * 2000
        client.settimeout(0.2)
        while not over.is_set():
            try:
                client.sendall(block)
            except socket.timeout:
                break  # in the middle of a message
            except OSError:
                break


def check_flood(what, act, wanted):
    """Keys and signals are heard while messages come faster than they are shown."""
    terminal, number = start_chat()
    over = threading.Event()
    feeders = [threading.Thread(target=keep_flooding, args=(number, over), daemon=True) for _ in range(2)]
    for feeder in feeders:
        feeder.start()
    if not wait_until(lambda: terminal.size > 3000000):
        terminal.fail('shows no flood')
    act(terminal)
    status = terminal.await_end(what + ' in a flood')
    over.set()
    for feeder in feeders:
        feeder.join()
    if status not in wanted:
        terminal.fail('ends with %d after %s in a flood' % (status, what))
    check_modes(terminal, what)


def keep_flooding(receiver, over):
    while not over.is_set():
        flood(receiver, over)


def start_stopped():
    """A chat at a terminal that takes nothing more."""
    terminal, number = start_chat()
    terminal.type(b'\x13')  # Ctrl-S
    with connect() as client:
        client.sendall(message(number, b'x' * 1000) * 1000)
        time.sleep(0.5)  # for the program to be in the middle of it: there is nothing to see
    return terminal


def check_modes(terminal, what):
    if termios.tcgetattr(terminal.slave)[:4] != terminal.before[:4]:
        terminal.fail('leaves the terminal changed after ' + what)


def send_signal(number):
    return lambda terminal: terminal.process.send_signal(number)


def keys(text):
    return lambda terminal: terminal.type(text)


ENDS = (('SIGTERM', send_signal(signal.SIGTERM), (-signal.SIGTERM,)), ('Ctrl-C', keys(b'\x03'), (-signal.SIGINT,)),
        ('/quit', keys(b'/quit\r'), (0,)), ('Ctrl-D', keys(b'\x04'), (0,)))

for end in ENDS:
    check_flood(*end)

stopped = [(start_stopped(),) + end for end in ENDS]
for terminal, what, act, wanted in stopped:
    act(terminal)
for terminal, what, act, wanted in stopped:  # what was printed is lost, and that is said
    status = terminal.await_end(what + ' after Ctrl-S')
    if status not in wanted and not (status == 74 and wanted == (0,)):
        terminal.fail('ends with %d after %s after Ctrl-S' % (status, what))
    check_modes(terminal, what)

# After Ctrl-Q all is shown.
terminal = start_stopped()
terminal.type(b'\x11/quit\r')
if terminal.await_end('/quit') != 0 or not wait_until(lambda: terminal.text.count(b'xxx: ') or terminal.size > 1000000):
    terminal.fail('shows not all after Ctrl-Q')

# A terminal that is gone without a signal.
for command, ready in ((WATCH, rb'CLIENT'), (CHAT, rb'id \d'), (LISTEN, rb'id \d')):
    terminal = Terminal(command, controlling=False)
    terminal.await_text(ready)
    terminal.hang_up()
    status = terminal.await_end('the end of its terminal')
    if status != 74:
        terminal.fail('ends with %d without its terminal' % status)

# Signals leave the terminal as it was, on its first screen and with its cursor.
for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'):
    for start, ready in ((lambda: Terminal(WATCH), rb'CLIENT'), (lambda: start_chat()[0], rb'id \d')):
        terminal = start()
        terminal.await_text(ready)
        terminal.process.send_signal(getattr(signal, name))
        terminal.await_end(name)
        check_modes(terminal, name)
        for on, off in ((b'\x1b[?1049h', b'\x1b[?1049l'), (b'\x1b[?2004h', b'\x1b[?2004l'), (b'\x1b[?25l', b'\x1b[?25h')):
            if on in terminal.text and not wait_until(lambda: terminal.text.rfind(on) < terminal.text.rfind(off)):
                terminal.fail('leaves %r after %s' % (on, name))
print('PASS: at a terminal')
