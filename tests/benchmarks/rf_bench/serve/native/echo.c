/* A gRPC server that answers every call with the same bytes: the floor of what a call over HTTP/2 costs.
 *
 * usage: echo REPLY_BYTES
 * Prints its port, then serves until its standard input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>

#include "connection.h"

#define CONNECTIONS 64

static uint8_t *reply; /* a message with its prefix */
static size_t reply_length;

static nghttp2_nv header(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

/* Gives nghttp2 the next part of a reply, and the trailers with the last part. The source's number counts what it has got. */
static ssize_t on_reply(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                        nghttp2_data_source *source, void *connection) {
    (void)connection;
    size_t left = reply_length - (size_t)source->fd;
    size_t length = left < room ? left : room;
    memcpy(to, reply + source->fd, length);
    source->fd += (int)length;
    if (length == left) {
        nghttp2_nv status = header("grpc-status", "0");
        if (nghttp2_submit_trailer(session, stream, &status, 1) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
    return (ssize_t)length;
}

/* Answers a request when its last frame is there. */
static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *connection) {
    (void)connection;
    bool of_call = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    if (!of_call || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    nghttp2_nv headers[] = {header(":status", "200"), header("content-type", "application/grpc")};
    nghttp2_data_provider body = {.source.fd = 0, .read_callback = on_reply};
    return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &body);
}

static int listening(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, CONNECTIONS) ||
        getsockname(listener, (struct sockaddr *)&address, &length))
        fail("listen", strerror(errno));
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void take_in(int listener, struct connection *c, nghttp2_session_callbacks *callbacks) {
    *c = (struct connection){.socket = accept(listener, NULL, NULL)};
    if (c->socket < 0)
        return;
    if (!without_delay(c->socket) || nghttp2_session_server_new(&c->session, callbacks, c))
        fail("connection", strerror(errno));
    if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0) || !connection_write(c))
        connection_close(c);
}

static bool input_has_ended(void) {
    char ignored[256];
    return read(STDIN_FILENO, ignored, sizeof ignored) <= 0;
}

int main(int count, char **arguments) {
    long bytes = count == 2 ? atol(arguments[1]) : -1;
    if (bytes < 0 || bytes > 1 << 30)
        fail("usage", "echo REPLY_BYTES");
    reply_length = PREFIX + (size_t)bytes;
    reply = allocate(reply_length, 1);
    for (int i = 1; i < PREFIX; i++)
        reply[i] = (uint8_t)(bytes >> 8 * (PREFIX - 1 - i));

    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks))
        fail("nghttp2", "no memory");
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);

    struct connection *connections = allocate(CONNECTIONS, sizeof *connections);
    struct pollfd waiting[CONNECTIONS + 2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                              {.fd = listening(), .events = POLLIN}};
    for (int i = 0; i < CONNECTIONS; i++)
        connections[i].socket = -1;
    for (;;) {
        int open = 0;
        for (int i = 0; i < CONNECTIONS; i++) {
            waiting[i + 2] = connection_wait(&connections[i]);
            open = connections[i].socket < 0 ? open : i + 1;
        }
        if (poll(waiting, (nfds_t)open + 2, -1) < 0)
            fail("poll", strerror(errno));
        if (waiting[0].revents && input_has_ended())
            return 0;
        for (int i = 0; i < open; i++) {
            struct connection *c = &connections[i];
            if (waiting[i + 2].revents && c->socket >= 0 && !(connection_read(c) && connection_write(c)))
                connection_close(c);
        }
        for (int i = 0; waiting[1].revents && i < CONNECTIONS; i++)
            if (connections[i].socket < 0) {
                take_in(waiting[1].fd, &connections[i], callbacks);
                break;
            }
    }
}
