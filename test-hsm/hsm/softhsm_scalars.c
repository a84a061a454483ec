/*
 * softhsm_scalars.c - the private scalars in a token of SoftHSM 2, for a search that must not find
 * them elsewhere.
 *
 *   softhsm_scalars TOKENDIR LABEL PINFILE
 *
 * Reads SoftHSM's own store, beside PKCS#11 and beside our programs: the user
 * PIN opens the token's key (AES-256-CBC, under a key made from PIN and salt),
 * and that key opens CKA_VALUE of each private key. Prints one line of hex
 * words. Its output goes to a pipe and never to a file; the tokens are a
 * test's own.
 */
#define _GNU_SOURCE /* asprintf */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <p11-kit/pkcs11.h>

#define FILE_MAX       65536 /* octets of an object's file */
#define ATTRIBUTES_MAX 64
#define KEY_LEN        32
#define IV_LEN         16
#define SALT_LEN       8
#define ITERATIONS     1500 /* plus the last octet of the salt */
#define PIN_MAX        64

#define OS_TOKENLABEL (CKA_VENDOR_DEFINED + 0x5349)
#define OS_USERPIN    (CKA_VENDOR_DEFINED + 0x534d)

/* Encodings of a value. */
enum kind {
    BOOLEAN = 1,
    NUMBER = 2,
    OCTETS = 3,
    MAP = 4,
    SET = 5
};

struct attribute {
    uint64_t type;
    const uint8_t *at;
    size_t len;
};

struct object {
    uint8_t octets[FILE_MAX];
    size_t len;
    struct attribute attributes[ATTRIBUTES_MAX];
    size_t count;
};

static void
give_up(const char *why)
{
    fprintf(stderr, "softhsm_scalars: %s\n", why);
    exit(1);
}

static uint64_t
read_number(const uint8_t *at)
{
    uint64_t value = 0;

    for (size_t i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

/* Length in octets of a value of that kind, including its length field; 0: the file is
 * truncated. */
static size_t
value_size(uint64_t kind, const uint8_t *at, size_t left)
{
    size_t size = kind == BOOLEAN ? 1 : 8;

    if (left < size)
        return 0;
    if (kind == OCTETS || kind == MAP)
        size += read_number(at);
    else if (kind == SET)
        size += 8 * read_number(at);
    return size <= left ? size : 0;
}

/* A generation number, then attributes: type, kind, value. Numbers have 64 bits in big-endian
 * order. */
static bool
parse(struct object *object)
{
    size_t at = 8;

    object->count = 0;
    while (at + 16 <= object->len && object->count < ATTRIBUTES_MAX) {
        uint64_t kind = read_number(object->octets + at + 8);
        const uint8_t *value = object->octets + at + 16;
        size_t size = value_size(kind, value, object->len - at - 16);
        size_t skip = kind == OCTETS ? 8 : 0;

        if (size == 0)
            return false;
        object->attributes[object->count++] =
            (struct attribute){read_number(object->octets + at), value + skip, size - skip};
        at += 16 + size;
    }
    return at == object->len;
}

static bool
read_object(const char *directory, const char *name, struct object *out)
{
    char *path = NULL;
    FILE *file;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        give_up("memory");
    file = fopen(path, "r");
    free(path);
    if (file == NULL)
        return false;
    out->len = fread(out->octets, 1, sizeof(out->octets), file);
    fclose(file);
    return out->len >= 8 && out->len < sizeof(out->octets) && parse(out);
}

static const struct attribute *
attribute_of(const struct object *object, uint64_t type)
{
    for (size_t i = 0; i < object->count; i++) {
        if (object->attributes[i].type == type)
            return &object->attributes[i];
    }
    return NULL;
}

static bool
is_number(const struct object *object, uint64_t type, uint64_t wanted)
{
    const struct attribute *attribute = attribute_of(object, type);

    return attribute != NULL && attribute->len == 8 && read_number(attribute->at) == wanted;
}

/* IV, then AES-256-CBC with padding. */
static size_t
decrypt(const uint8_t *key, const uint8_t *in, size_t len, uint8_t *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int first = 0;
    int last = 0;

    if (ctx == NULL || len <= IV_LEN ||
        EVP_DecryptInit_ex(ctx, EVP_aes_256_cbc(), NULL, key, in) != 1 ||
        EVP_DecryptUpdate(ctx, out, &first, in + IV_LEN, (int)(len - IV_LEN)) != 1 ||
        EVP_DecryptFinal_ex(ctx, out + first, &last) != 1)
        give_up("does not decrypt: another PIN, or another version of SoftHSM");
    EVP_CIPHER_CTX_free(ctx);
    return (size_t)first + (size_t)last;
}

static void
key_from_pin(const char *pin, const uint8_t *salt, uint8_t *out)
{
    uint8_t octets[SALT_LEN + PIN_MAX];
    size_t len = strlen(pin);

    memcpy(octets, salt, SALT_LEN);
    memcpy(octets + SALT_LEN, pin, len);
    SHA256(octets, SALT_LEN + len, out);
    for (int i = 1; i < ITERATIONS + salt[SALT_LEN - 1]; i++)
        SHA256(out, KEY_LEN, out);
}

/* Decrypt "RJR" and the token's key with the key derived from the PIN. */
static void
token_key(const struct object *token, const char *pin, uint8_t *out)
{
    const struct attribute *blob = attribute_of(token, OS_USERPIN);
    uint8_t key[KEY_LEN];
    uint8_t plain[128];

    if (blob == NULL || blob->len < SALT_LEN || blob->len > sizeof(plain))
        give_up("no user PIN");
    key_from_pin(pin, blob->at, key);
    if (decrypt(key, blob->at + SALT_LEN, blob->len - SALT_LEN, plain) != 3 + KEY_LEN ||
        memcmp(plain, "RJR", 3) != 0)
        give_up("another PIN");
    memcpy(out, plain + 3, KEY_LEN);
    OPENSSL_cleanse(plain, sizeof(plain));
    OPENSSL_cleanse(key, sizeof(key));
}

static void
print_scalar(const struct object *object, const uint8_t *key)
{
    const struct attribute *value = attribute_of(object, CKA_VALUE);
    uint8_t plain[128];
    size_t len;

    if (!is_number(object, CKA_CLASS, CKO_PRIVATE_KEY) ||
        !is_number(object, CKA_KEY_TYPE, CKK_EC) || value == NULL || value->len > sizeof(plain))
        return;
    len = decrypt(key, value->at, value->len, plain);
    if (len > 32)
        give_up("a key that is not on P-256");
    for (size_t i = 0; i < 32; i++)
        printf("%02x", i < 32 - len ? 0 : plain[i - (32 - len)]);
    putchar(' ');
    OPENSSL_cleanse(plain, sizeof(plain));
}

static void
print_token(const char *directory, const uint8_t *key)
{
    struct object object;
    const struct dirent *entry;
    DIR *files = opendir(directory);

    while (files != NULL && (entry = readdir(files)) != NULL) {
        size_t len = strlen(entry->d_name);

        if (len > 7 && strcmp(entry->d_name + len - 7, ".object") == 0 &&
            strcmp(entry->d_name, "token.object") != 0 &&
            read_object(directory, entry->d_name, &object))
            print_scalar(&object, key);
    }
    if (files != NULL)
        closedir(files);
}

static bool
has_label(const struct object *token, const char *label)
{
    const struct attribute *attribute = attribute_of(token, OS_TOKENLABEL);
    char padded[33];

    snprintf(padded, sizeof(padded), "%-32s", label);
    return attribute != NULL && attribute->len == 32 && memcmp(attribute->at, padded, 32) == 0;
}

static void
read_pin(const char *path, char *out)
{
    FILE *file = fopen(path, "r");

    if (file == NULL || fgets(out, PIN_MAX, file) == NULL)
        give_up("no PIN");
    fclose(file);
    out[strcspn(out, "\n")] = '\0';
}

int
main(int argc, char **argv)
{
    DIR *tokens;
    const struct dirent *entry;
    struct object token;
    char pin[PIN_MAX];
    uint8_t key[KEY_LEN];

    if (argc != 4)
        give_up("softhsm_scalars TOKENDIR LABEL PINFILE");
    read_pin(argv[3], pin);
    tokens = opendir(argv[1]);
    while (tokens != NULL && (entry = readdir(tokens)) != NULL) {
        char *directory = NULL;

        if (asprintf(&directory, "%s/%s", argv[1], entry->d_name) < 0)
            give_up("memory");
        if (entry->d_name[0] != '.' && read_object(directory, "token.object", &token) &&
            has_label(&token, argv[2])) {
            token_key(&token, pin, key);
            print_token(directory, key);
        }
        free(directory);
    }
    if (tokens != NULL)
        closedir(tokens);
    putchar('\n');
    OPENSSL_cleanse(key, sizeof(key));
    OPENSSL_cleanse(pin, sizeof(pin));
    return 0;
}
