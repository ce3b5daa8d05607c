#include "support/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct http_server {
    server_answer_fn *fn;
    void *context;
    int listener;
    unsigned count;
    pthread_t thread;
    char url[64];
};

static void
must(bool good)
{
    if (!good)
        abort();
}

bool
server_header(const struct server_request *request, const char *name, char *value, size_t size)
{
    size_t skip = strlen(name);
    for (const char *line = request->headers; *line != '\0'; line += strcspn(line, "\n") + 1) {
        if (strncasecmp(line, name, skip) == 0 && line[skip] == ':') {
            const char *begin = line + skip + 1 + strspn(line + skip + 1, " ");
            snprintf(value, size, "%.*s", (int)strcspn(begin, "\r\n"), begin);
            return true;
        }
        if (strchr(line, '\n') == NULL)
            break;
    }
    return false;
}

/* False: the client went away. */
static bool
receive_more(int fd, struct buf *in)
{
    char bytes[16384];
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
    if (n > 0)
        buf_put(in, bytes, (size_t)n);
    return n > 0;
}

static bool
receive(int fd, struct buf *in, struct server_request *request)
{
    char *blank, length[32];
    while ((blank = strstr(buf_cstr(in), "\r\n\r\n")) == NULL) {
        if (!receive_more(fd, in))
            return false;
    }
    size_t head = (size_t)(blank - (char *)in->data) + 4;
    request->headers = buf_cstr(in);
    size_t body = server_header(request, "content-length", length, sizeof(length))
                      ? strtoul(length, NULL, 10)
                      : 0;
    while (in->size < head + body) {
        if (!receive_more(fd, in))
            return false;
    }
    char *text = (char *)in->data;
    text[head - 1] = '\0';
    request->body = slice_of(text + head, body);
    request->headers = text + strcspn(text, "\n") + 1;
    text[strcspn(text, "\r")] = '\0';
    char *space = strchr(text, ' ');
    *space = '\0';
    request->method = text;
    request->target = space + 1;
    space[1 + strcspn(space + 1, " ")] = '\0';
    return true;
}

static void
send_all(int fd, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t n = send(fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes = slice_of(bytes.data + n, bytes.size - (size_t)n);
    }
}

static void
answer(struct http_server *s, int fd)
{
    struct buf in = { 0 }, out = { 0 };
    struct server_request request = { 0 };
    struct server_answer a = { .status = 200 };
    if (receive(fd, &in, &request)) {
        request.number = ++s->count;
        s->fn(s->context, &request, &a);
        buf_printf(&out, "HTTP/1.1 %d Said\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n",
                   a.status, a.body.size, a.headers != NULL ? a.headers : "");
        if (strcmp(request.method, "HEAD") != 0)
            buf_put_slice(&out, buf_slice(&a.body));
        if (!a.drop)
            send_all(fd, buf_slice(&out));
    }
    buf_release(&in);
    buf_release(&out);
    buf_release(&a.body);
}

static void *
serve(void *context)
{
    struct http_server *s = context;
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return NULL; /* shut down */
        if (fd < 0)
            continue;
        answer(s, fd);
        close(fd);
    }
}

struct http_server *
http_server_new(server_answer_fn *fn, void *context)
{
    struct http_server *s = calloc(1, sizeof(*s));
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    must(s != NULL);
    s->fn = fn;
    s->context = context;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(s->listener >= 0);
    must(bind(s->listener, (struct sockaddr *)&address, size) == 0);
    must(listen(s->listener, 16) == 0);
    must(getsockname(s->listener, (struct sockaddr *)&address, &size) == 0);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    must(pthread_create(&s->thread, NULL, serve, s) == 0);
    return s;
}

const char *
http_server_url(const struct http_server *s)
{
    return s->url;
}

void
http_server_free(struct http_server *s)
{
    (void)shutdown(s->listener, SHUT_RDWR);
    (void)pthread_join(s->thread, NULL);
    close(s->listener);
    free(s);
}
