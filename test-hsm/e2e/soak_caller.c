/* soak_caller.c - a SIP proxy that retries when a connection breaks. */
#include "soak_caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <jansson.h>

#define ANSWER_MAX 16384 /* octets */
#define CALL_S     20 /* a call without an answer by then is lost */
#define PAUSE_US   20000 /* before a retry */

/* Returns the HTTP status, and the body in *body; -1: the connection broke. */
static int
exchange(const char *path, const char *request, char answer[ANSWER_MAX], const char **body)
{
    const struct timeval limit = {CALL_S, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len = 0;
    ssize_t n = -1;

    if (fd < 0)
        abort();
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        while ((n = recv(fd, answer + len, ANSWER_MAX - 1 - len, 0)) > 0)
            len += (size_t)n;
    }
    close(fd);
    answer[len] = '\0';
    *body = strstr(answer, "\r\n\r\n");
    if (n != 0 || *body == NULL || strncmp(answer, "HTTP/1.1 ", 9) != 0)
        return -1;
    return (int)strtol(answer + 9, NULL, 10);
}

/* Retries until there is a valid answer; returns its member, to be decrefed. NULL: lost. */
static json_t *
ask(const char *socket, struct soak_tally *tally, const char *what, json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    size_t size = strlen(text) + 256;
    char *http = malloc(size);
    char *answer = malloc(ANSWER_MAX);
    const time_t until = time(NULL) + CALL_S;
    json_t *json = NULL;
    const char *body = NULL;

    if (http == NULL || answer == NULL)
        abort();
    snprintf(http, size,
             "POST /stir/v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             what, strlen(text), text);
    while (json == NULL && time(NULL) < until) {
        int status = exchange(socket, http, answer, &body);

        if (status == 200) {
            json = json_loads(body + 4, 0, NULL);
            continue;
        }
        atomic_fetch_add(status < 0 ? &tally->broken : &tally->unavailable, 1);
        if (status > 0)
            printf("%s: %d %s\n", what, status, body + 4);
        usleep(PAUSE_US);
    }
    if (json == NULL)
        tally->lost++;
    free(answer);
    free(http);
    free(text);
    json_decref(request);
    return json;
}

/* After the second dot and before the parameters there are 64 octets in base64url. */
static bool
has_signature(const char *identity)
{
    const char *dot = strchr(identity, '.');

    dot = dot == NULL ? NULL : strchr(dot + 1, '.');
    return dot != NULL && strcspn(dot + 1, ";") == 86;
}

bool
soak_sign(const char *socket, struct soak_tally *tally, const char *orig, time_t now,
          char identity[SOAK_IDENTITY_MAX])
{
    json_t *answer =
        ask(socket, tally, "signing",
            json_pack("{s:{s:s, s:{s:[s]}, s:I, s:{s:s}, s:s}}", "signingRequest", "attest", "A",
                      "dest", "tn", "12155551213", "iat", (json_int_t)now, "orig", "tn", orig,
                      "origid", "de305d54-75b4-431b-adb2-eb6b9e546014"));
    const char *text =
        json_string_value(json_object_get(json_object_get(answer, "signingResponse"), "identity"));
    bool is_signed = text != NULL && strlen(text) < SOAK_IDENTITY_MAX && has_signature(text);

    if (is_signed)
        memcpy(identity, text, strlen(text) + 1);
    else if (answer != NULL)
        tally->without_signature++;
    json_decref(answer);
    return is_signed;
}

void
soak_verify(const char *socket, struct soak_tally *tally, const char *orig, time_t now,
            const char *identity, const char *verstat)
{
    json_t *answer = ask(socket, tally, "verification",
                         json_pack("{s:{s:{s:s}, s:{s:[s]}, s:I, s:s}}", "verificationRequest",
                                   "from", "tn", orig, "to", "tn", "12155551213", "time",
                                   (json_int_t)now, "identity", identity));
    const json_t *response = json_object_get(answer, "verificationResponse");
    const char *got = json_string_value(json_object_get(response, "verstat"));

    if (answer != NULL && (got == NULL || strcmp(got, verstat) != 0)) {
        tally->wrong++;
        printf("not %s: %s\n", verstat, json_string_value(json_object_get(response, "reasondesc")));
    }
    json_decref(answer);
}
