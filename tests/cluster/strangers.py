#!/usr/bin/env python3
"""strangers.py: what strangers say to three links, until it is killed.

    strangers.py HOST...

HOSTs are numbered from 1, as their nodes are. At the port for data of each of them it has hundreds of connections that
say nothing, garbage, or a preamble with a token that is random or that somebody else used before. To the NATS server of
each it says hellos in the names of all nodes and of some that do not exist, requests, replies, and garbage. It answers
no request, since who may answer is trusted. Each line of its output counts what it has done so far.
"""
import os
import random
import socket
import struct
import sys
import time

HELLO, WHO, STREAM, GRANT, CONNECT = 1, 2, 3, 4, 5
FORGED = bytes(16)
hosts = sys.argv[1:]
tokens = []  # of grants that were seen, each with the time
done = dict.fromkeys(('connections', 'messages', 'grants_seen', 'old_tokens', 'failures'), 0)


def message(kind, node, token=b'', address=b''):
    """What src/link/message.h describes, in somebody's name."""
    age = random.choice((0, 1000, 1 << 40, (1 << 64) - 1))
    return struct.pack('!BBHBBBQQ', 2, kind, node, random.randint(0, 64), random.randint(0, 3), random.randint(0, 3),
                       random.getrandbits(64), age) + token + address


def old_token():
    """One that a link gave, and that is over by now; or a random one."""
    old = [token for when, token in tokens if when < time.monotonic() - 6]
    if not old:
        return os.urandom(16)
    done['old_tokens'] += 1
    return random.choice(old)


def connect(host, port):
    connection = socket.socket()
    connection.settimeout(0.5)
    connection.connect((host, port))
    return connection


def knock(host):
    """One connection to a link's port for data, which stays open."""
    connection = connect(host, 7412)
    done['connections'] += 1
    kind = random.randrange(5)
    first = message(CONNECT, random.randint(1, 4), old_token() if kind > 3 else os.urandom(16))
    if kind == 1:
        connection.send(os.urandom(random.randint(1, 4000)))
    elif kind == 2:
        connection.send(first[:random.randint(1, len(first) - 1)])
    elif kind > 2:
        connection.send(first + os.urandom(random.choice((0, 100))))
    return connection


class Nats:
    """A connection to a server that takes part in all the cluster's subjects."""

    def __init__(self, host):
        self.connection = connect(host, 4222)
        self.connection.send(b'CONNECT {"verbose":false}\r\nSUB relayhub.> 1\r\n')

    def publish(self, subject, text, reply=''):
        self.connection.send(b'PUB %s %s %d\r\n%s\r\n' % (subject.encode(), reply.encode(), len(text), text))
        done['messages'] += 1

    def babble(self):
        numbers = (1, 2, 3, random.randint(4, 40))
        subjects = ['relayhub.hello', 'relayhub.reply.' + os.urandom(8).hex()]
        subjects += ['relayhub.node.%d' % number for number in numbers]
        for subject in subjects:
            self.publish(subject, os.urandom(random.randint(0, 300)))
            self.publish(subject, message(GRANT, random.choice(numbers), FORGED, b'10.88.0.1:7412'))
            self.publish(subject, message(random.randint(HELLO, STREAM), random.choice(numbers)))
        for number in numbers:
            self.publish('relayhub.hello', message(HELLO, number))
        self.publish('relayhub.node.%d' % random.choice(numbers), message(random.choice((WHO, STREAM)), numbers[3]),
                     'relayhub.reply.stranger')

    def listen(self):
        """Keeps the tokens of what was granted, and answers the server's PING, or it would close the connection."""
        self.connection.send(b'PONG\r\n')
        text = self.connection.recv(1 << 20)  # there is an INFO at first, and then what babble() said
        if not text:
            raise ConnectionError
        for reply in text.split(b'MSG relayhub.reply.')[1:]:
            reply = reply.partition(b'\r\n')[2]
            if reply[:2] == bytes((2, GRANT)) and len(reply) > 39 + 2 and reply[23:39] != FORGED:
                done['grants_seen'] += 1
                tokens.append((time.monotonic(), reply[23:39]))
        del tokens[:-100]


servers = {}
crowd = []
while True:
    for host in hosts:
        try:
            crowd += [knock(host) for _ in range(100)]
        except OSError:
            done['failures'] += 1
        try:
            if host not in servers:
                servers[host] = Nats(host)
            servers[host].listen()
            servers[host].babble()
        except OSError:
            done['failures'] += 1
            servers.pop(host, None)
    for connection in crowd[:-600]:
        if random.random() < 0.5:  # with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        connection.close()
    del crowd[:-600]
    print(' '.join('%s %d' % item for item in done.items()), flush=True)
    time.sleep(0.5)
