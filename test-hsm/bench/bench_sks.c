/* bench_sks.c - making a PASSporT beside the token's signature in it. */
#include <stdlib.h>
#include <string.h>

#include <sks/passport.h>

#include "bench.h"
#include "bench_sks_verify.h"
#include "softhsm.h"

static const char x5u[] = "https://cr.example/0123456789abcdef0123456789abcdef.pem";
static const char *const dest[] = {"12155551213"};
static const uint8_t message[300];

static void
make(void *context, size_t times)
{
    struct sks_claims claims = {
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = dest,
        .dest_tn_count = 1,
        .iat = 1768478400,
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };

    while (times-- > 0) {
        char *passport = NULL;

        bench_check(sks_passport_new(&claims, x5u, context, &passport) == HSM_OK,
                    "sks_passport_new");
        free(passport);
    }
}

static void
sign(void *context, size_t times)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    while (times-- > 0)
        bench_check(hsm_key_sign(context, message, sizeof(message), sig) == HSM_OK, "hsm_key_sign");
}

int
main(void)
{
    struct hsm_token *token;
    struct hsm_key *key = NULL;

    softhsm_start();
    token = softhsm_token("bench");
    bench_check(hsm_key_generate(token, "signer", &key) == HSM_OK, "hsm_key_generate");
    bench_ratio("sks", "sks_passport_new / the token's signature in it", 0.85,
                (struct bench_side){make, key}, (struct bench_side){sign, key});
    hsm_key_free(key);
    hsm_token_close(token);
    softhsm_stop();
    bench_sks_verify();
    return 0;
}
