/* replay.c - run a fuzz target over every file of a corpus directory. */
#include <dirent.h>
#include <stdio.h>

#include "fuzz.h"

static int
replay(const char *path)
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    size_t len;

    if (file == NULL)
        return -1;
    len = fread(data, 1, sizeof(data), file);
    fclose(file);
    return LLVMFuzzerTestOneInput(data, len);
}

int
main(int argc, char **argv)
{
    struct dirent *entry;
    size_t count = 0;
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;

    if (dir == NULL) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (replay(path) != 0) {
            fprintf(stderr, "%s: cannot be read\n", path);
            return 1;
        }
        count++;
    }
    closedir(dir);
    printf("%zu inputs\n", count);
    return count == 0;
}
