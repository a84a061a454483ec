/* data.c - vectors and expected values that tests read. */
#include "data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096 /* octets */

static _Noreturn void
give_up(const char *what, const char *why)
{
    fprintf(stderr, "test data: %s: %s\n", what, why);
    abort();
}

static void
join(char *out, const char *directory, const char *name)
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", directory, name);

    if (n < 0 || n >= PATH_SIZE)
        give_up(name, "path too long");
}

const char *
data_path(const char *name)
{
    static char path[PATH_SIZE];

    join(path, TEST_DATA_DIR, name);
    return path;
}

const char *
shared_path(const char *name)
{
    static char path[PATH_SIZE];
    const char *directory = getenv("STI_SHARED");

    join(path, directory != NULL ? directory : TEST_SHARED_DIR, name);
    if (access(path, R_OK) == 0)
        return path;
    printf("skipped: no %s: %s\n", path, strerror(errno));
    return NULL;
}

const char *
program_path(const char *name)
{
    static char path[PATH_SIZE];

    join(path, TEST_BIN_DIR, name);
    return path;
}

json_t *
data_json(const char *name)
{
    json_error_t error;
    json_t *json = json_load_file(data_path(name), JSON_REJECT_DUPLICATES, &error);

    if (json == NULL)
        give_up(name, error.text);
    return json;
}

char *
data_text(const char *name, size_t *len)
{
    FILE *file = fopen(data_path(name), "rb");
    char *text;
    long size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
        give_up(name, strerror(errno));
    rewind(file);
    text = malloc((size_t)size + 1);
    if (text == NULL || fread(text, 1, (size_t)size, file) != (size_t)size)
        give_up(name, "cannot read");
    fclose(file);
    text[size] = '\0';
    if (len != NULL)
        *len = (size_t)size;
    return text;
}

static unsigned
hex_digit(char digit, const char *hex)
{
    if (digit >= '0' && digit <= '9')
        return (unsigned)(digit - '0');
    if (digit >= 'a' && digit <= 'f')
        return (unsigned)(digit - 'a') + 10;
    if (digit >= 'A' && digit <= 'F')
        return (unsigned)(digit - 'A') + 10;
    give_up(hex, "not hex");
}

size_t
data_unhex(const char *hex, uint8_t *out, size_t max)
{
    size_t digits = strcmp(hex, "-") == 0 ? 0 : strlen(hex);

    if (digits % 2 != 0 || digits / 2 > max)
        give_up(hex, "odd, or too long for its buffer");
    for (size_t i = 0; i < digits / 2; i++)
        out[i] = (uint8_t)(hex_digit(hex[2 * i], hex) << 4 | hex_digit(hex[2 * i + 1], hex));
    return digits / 2;
}
