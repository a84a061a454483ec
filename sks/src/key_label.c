/* key_label.c - the labels of keys that the SP-KMS generates. */
#include "key_label_internal.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <hsm/time.h>

enum hsm_status
sks_key_label_new(struct hsm_token *token, const char *prefix, char out[KEY_LABEL_MAX + 1],
                  struct hsm_reason *why)
{
    uint8_t random[4];
    char stamp[HSM_TIME_STAMP_LEN + 1];
    int prefix_max = (int)(KEY_LABEL_MAX - sizeof(stamp) - 1 - 2 * sizeof(random));
    enum hsm_status st = hsm_token_random(token, random, sizeof(random));

    if (st != HSM_OK)
        return hsm_refuse(why, st, "the token gave no random octets: %s", hsm_status_text(st));
    hsm_time_stamp(time(NULL), stamp);
    snprintf(out, KEY_LABEL_MAX + 1, "%.*s-%s-%02x%02x%02x%02x", prefix_max, prefix, stamp,
             random[0], random[1], random[2], random[3]);
    return HSM_OK;
}
