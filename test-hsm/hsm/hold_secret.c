/*
 * hold_secret.c - a process that keeps a private scalar in its memory, for a search that must find
 * it.
 *
 *   hold_secret FORM        octets, limbs, hex, base64 or DER
 *
 * Reads the scalar, one word of hex, from standard input, says "holding", and
 * ends when standard input does.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

static uint8_t held[256];

static void
take(const char *form, const char *hex, const uint8_t *scalar)
{
    static const uint8_t der[] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20};

    if (strcmp(form, "octets") == 0) {
        memcpy(held, scalar, 32);
    } else if (strcmp(form, "limbs") == 0) {
        for (size_t i = 0; i < 32; i++)
            held[i] = scalar[31 - i];
    } else if (strcmp(form, "hex") == 0) {
        memcpy(held, hex, 64);
    } else if (strcmp(form, "base64") == 0) {
        (void)EVP_EncodeBlock(held, scalar, 32);
    } else if (strcmp(form, "DER") == 0) {
        memcpy(held, der, sizeof(der));
        memcpy(held + sizeof(der), scalar, 32);
    } else {
        fprintf(stderr, "hold_secret: no such form\n");
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    char hex[80];
    uint8_t scalar[32];
    size_t len = 0;

    if (argc != 2)
        return 2;
    setvbuf(stdin, NULL, _IONBF, 0); /* no copy in a buffer besides the planted one */
    if (fgets(hex, sizeof(hex), stdin) == NULL)
        return 2;
    hex[64] = '\0';
    if (OPENSSL_hexstr2buf_ex(scalar, sizeof(scalar), &len, hex, '\0') != 1 || len != 32)
        return 2;
    take(argv[1], hex, scalar);
    OPENSSL_cleanse(scalar, sizeof(scalar));
    OPENSSL_cleanse(hex, sizeof(hex));
    puts("holding");
    fflush(stdout);
    while (getchar() != EOF)
        continue;
    return held[0] == held[1] && held[0] == 0;
}
