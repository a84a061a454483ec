/* journal_note.c - checkpoints: C2SP tlog-checkpoint in a C2SP signed note. */
#include "journal_note_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <hsm/es256.h>

#include "es256_internal.h"
#include "journal_line_internal.h"

#define EM_DASH  "\xe2\x80\x94" /* U+2014, with which a signature's line begins */
#define ROOT_B64 44 /* octets of a root as text */
#define HINT_LEN 4

#define BASE64_MAX 2048 /* octets of a text, at most that of a record's leaf */

enum hsm_status
hsm_note_key_hash(EVP_PKEY *key, uint8_t hash[HSM_SHA256_LEN])
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    enum hsm_status st = HSM_ERR_CRYPTO;

    if (len > 0)
        st = hsm_sha256(der, (size_t)len, hash);
    OPENSSL_free(der);
    ERR_clear_error();
    return st;
}

enum hsm_status
hsm_note_text(const struct hsm_journal_note *note, char out[HSM_JOURNAL_NOTE_MAX])
{
    unsigned char root[ROOT_B64 + 1];
    int n;

    (void)EVP_EncodeBlock(root, note->root, sizeof(note->root));
    n = snprintf(out, HSM_JOURNAL_NOTE_MAX, "%s\n%llu\n%s\ntime %s\n", note->origin,
                 (unsigned long long)note->size, (const char *)root, note->time);
    return n > 0 && n < HSM_JOURNAL_NOTE_MAX ? HSM_OK : HSM_ERR_USAGE;
}

enum hsm_status
hsm_note_sig_format(const struct hsm_journal_note *note, char out[HSM_NOTE_SIG_TEXT])
{
    uint8_t octets[HINT_LEN + HSM_P256_DER_SIG_MAX];
    size_t len = 0;
    enum hsm_status st = hsm_es256_to_der(note->sig, octets + HINT_LEN, &len);

    if (st != HSM_OK)
        return st;
    memcpy(octets, note->key_hint, HINT_LEN);
    (void)EVP_EncodeBlock((unsigned char *)out, octets, (int)(HINT_LEN + len));
    return HSM_OK;
}

bool
hsm_note_base64_get(const char *text, size_t text_len, uint8_t *out, size_t size, size_t *len)
{
    unsigned char octets[BASE64_MAX], again[BASE64_MAX + 4];
    size_t pad = 0;
    int n;

    if (text_len == 0 || text_len % 4 != 0 || text_len >= BASE64_MAX)
        return false;
    n = EVP_DecodeBlock(octets, (const unsigned char *)text, (int)text_len);
    while (pad < 2 && text[text_len - 1 - pad] == '=')
        pad++;
    if (n < (int)pad || (size_t)n - pad > size)
        return false;
    *len = (size_t)n - pad;
    (void)EVP_EncodeBlock(again, octets, (int)*len);
    if (memcmp(again, text, text_len) != 0)
        return false;
    memcpy(out, octets, *len);
    return true;
}

enum hsm_status
hsm_note_sig_parse(const char *text, struct hsm_journal_note *out)
{
    uint8_t octets[HINT_LEN + HSM_P256_DER_SIG_MAX];
    size_t len = 0;

    if (!hsm_note_base64_get(text, strlen(text), octets, sizeof(octets), &len) || len <= HINT_LEN ||
        hsm_es256_from_der(octets + HINT_LEN, len - HINT_LEN, out->sig) != HSM_OK)
        return HSM_ERR_MALFORMED;
    memcpy(out->key_hint, octets, HINT_LEN);
    return HSM_OK;
}

enum hsm_status
hsm_journal_note_format(const struct hsm_journal_note *note, char *out)
{
    char text[HSM_JOURNAL_NOTE_MAX];
    char sig[HSM_NOTE_SIG_TEXT];
    enum hsm_status st = hsm_note_text(note, text);
    int n;

    if (st == HSM_OK)
        st = hsm_note_sig_format(note, sig);
    if (st != HSM_OK)
        return st;
    n = snprintf(out, HSM_JOURNAL_NOTE_MAX, "%s\n" EM_DASH " %s %s\n", text, note->origin, sig);
    return n > 0 && n < HSM_JOURNAL_NOTE_MAX ? HSM_OK : HSM_ERR_USAGE;
}

/* The text up to the next line end, copied; false: there is no line end, or the text is too
 * long. */
static bool
take_line(const char **at, char *out, size_t size)
{
    size_t len = strcspn(*at, "\n");

    if ((*at)[len] != '\n' || len >= size)
        return false;
    memcpy(out, *at, len);
    out[len] = '\0';
    *at += len + 1;
    return true;
}

static bool
take_root(const char **at, uint8_t *root)
{
    char line[ROOT_B64 + 1];
    size_t len = 0;

    return take_line(at, line, sizeof(line)) &&
           hsm_note_base64_get(line, strlen(line), root, HSM_SHA256_LEN, &len) &&
           len == HSM_SHA256_LEN;
}

static bool
take_size(const char **at, uint64_t *size)
{
    char line[24];
    char again[24];

    if (!take_line(at, line, sizeof(line)) || line[0] < '0' || line[0] > '9')
        return false;
    *size = strtoull(line, NULL, 10);
    snprintf(again, sizeof(again), "%llu", (unsigned long long)*size);
    return strcmp(line, again) == 0;
}

static bool
take_time(const char **at, char *time)
{
    char line[5 + HSM_JOURNAL_TIME_LEN + 1];

    if (!take_line(at, line, sizeof(line)) || strncmp(line, "time ", 5) != 0 ||
        hsm_time_get(line + 5) < 0)
        return false;
    memcpy(time, line + 5, HSM_JOURNAL_TIME_LEN + 1);
    return true;
}

static bool
take_signature(const char **at, struct hsm_journal_note *note)
{
    static const char dash[] = EM_DASH " ";
    char line[sizeof(dash) + HSM_JOURNAL_ORIGIN_MAX + 1 + HSM_NOTE_SIG_TEXT];
    size_t len = strlen(note->origin);
    const char *name = line + sizeof(dash) - 1;

    if (!take_line(at, line, sizeof(line)) || strncmp(line, dash, sizeof(dash) - 1) != 0)
        return false;
    return strncmp(name, note->origin, len) == 0 && name[len] == ' ' &&
           hsm_note_sig_parse(name + len + 1, note) == HSM_OK;
}

/* Notes of a journal have one extension line and one signature; others are refused. */
enum hsm_status
hsm_journal_note_parse(const char *text, struct hsm_journal_note *out, struct hsm_reason *why)
{
    struct hsm_journal_note note;
    char blank[1];

    memset(&note, 0, sizeof(note));
    if (!take_line(&text, note.origin, sizeof(note.origin)) || note.origin[0] == '\0' ||
        !take_size(&text, &note.size) || !take_root(&text, note.root) ||
        !take_time(&text, note.time) || !take_line(&text, blank, sizeof(blank)) ||
        !take_signature(&text, &note) || *text != '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "not a checkpoint of a signing journal");
    *out = note;
    return HSM_OK;
}

enum hsm_status
hsm_journal_note_verify(const struct hsm_journal_note *note, EVP_PKEY *key)
{
    char text[HSM_JOURNAL_NOTE_MAX];
    uint8_t hash[HSM_SHA256_LEN];
    enum hsm_status st = hsm_note_text(note, text);

    if (st == HSM_OK)
        st = hsm_note_key_hash(key, hash);
    if (st != HSM_OK)
        return st;
    if (memcmp(hash, note->key_hint, HINT_LEN) != 0)
        return HSM_ERR_UNTRUSTED;
    return hsm_es256_verify(key, text, strlen(text), note->sig, sizeof(note->sig));
}
