/* An HTTP/2 connection on a non-blocking socket: nghttp2's session, and the bytes that the socket has not taken yet. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Length of the prefix of a message of gRPC: a byte that says whether it is compressed, and its length in four, highest first. */
#define PREFIX 5

struct connection {
    int socket;
    nghttp2_session *session;
    uint8_t output[1 << 16]; /* bytes from `begin` to `end` wait for the socket */
    size_t begin, end;
    const uint8_t *frame; /* of nghttp2, until it is asked for the next one */
    size_t frame_length;
    bool blocked; /* the socket takes nothing at present */
    bool ready;   /* the settings of the other end have come */
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("memory", "none left");
    return memory;
}

static bool without_delay(int socket) {
    int one = 1;
    return setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 &&
           fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK) == 0;
}

/* Moves frames of nghttp2 into the output, so that many small ones leave by one call of the system; false if that failed. */
static bool connection_fill(struct connection *c) {
    while (c->end < sizeof c->output) {
        if (c->frame_length == 0) {
            ssize_t length = nghttp2_session_mem_send(c->session, &c->frame);
            if (length < 0)
                return false;
            if (length == 0)
                break;
            c->frame_length = (size_t)length;
        }
        size_t room = sizeof c->output - c->end;
        size_t moved = c->frame_length < room ? c->frame_length : room;
        memcpy(c->output + c->end, c->frame, moved);
        c->end += moved;
        c->frame += moved;
        c->frame_length -= moved;
    }
    return true;
}

/* Sends all that the socket takes; false if the connection is over. */
static bool connection_write(struct connection *c) {
    c->blocked = false;
    for (;;) {
        if (!connection_fill(c))
            return false;
        if (c->begin == c->end)
            return true;
        ssize_t sent = send(c->socket, c->output + c->begin, c->end - c->begin, MSG_NOSIGNAL);
        if (sent < 0) {
            c->blocked = errno == EAGAIN;
            return c->blocked;
        }
        c->begin += (size_t)sent;
        if (c->begin == c->end)
            c->begin = c->end = 0;
    }
}

/* Hands all that has come to nghttp2; false if the connection is over. */
static bool connection_read(struct connection *c) {
    static uint8_t input[1 << 18];
    for (;;) {
        ssize_t got = recv(c->socket, input, sizeof input, 0);
        if (got < 0)
            return errno == EAGAIN;
        if (got == 0 || nghttp2_session_mem_recv(c->session, input, (size_t)got) < 0)
            return false;
        if ((size_t)got < sizeof input)
            return true;
    }
}

static void connection_close(struct connection *c) {
    nghttp2_session_del(c->session);
    close(c->socket);
    c->socket = -1; /* which poll() passes over */
}

/* Asks poll() for what a connection waits for. */
static struct pollfd connection_wait(const struct connection *c) {
    return (struct pollfd){.fd = c->socket, .events = (short)(POLLIN | (c->blocked ? POLLOUT : 0))};
}

#endif
