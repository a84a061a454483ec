/* use.c - what a private key is used for, and by whom. */
#include <hsm/use.h>

#include <stddef.h>

static _Thread_local struct hsm_use now;

struct hsm_use
hsm_use_now(void)
{
    return now;
}

struct hsm_use
hsm_use_for(enum hsm_use_kind kind)
{
    struct hsm_use before = now;

    now.kind = kind;
    return before;
}

struct hsm_use
hsm_use_asked_by(const char *who)
{
    struct hsm_use before = now;

    now.who = who;
    return before;
}

void
hsm_use_restore(const struct hsm_use *before)
{
    now = *before;
}

static const struct {
    const char *word;
    bool durable;
} kinds[HSM_USE_KINDS] = {
    [HSM_USE_UNSPECIFIED] = {"unspecified", true},
    [HSM_USE_CERTIFICATE] = {"certificate", true},
    [HSM_USE_CRL] = {"crl", true},
    [HSM_USE_CSR] = {"csr", true},
    [HSM_USE_SPC_TOKEN] = {"spc-token", true},
    [HSM_USE_CA_LIST] = {"ca-list", true},
    [HSM_USE_PASSPORT] = {"passport", false},
    [HSM_USE_ACME] = {"acme", true},
    [HSM_USE_TLS] = {"tls", false},
    [HSM_USE_SELF_TEST] = {"self-test", false},
    [HSM_USE_OPERATOR] = {"operator", true},
    [HSM_USE_BENCHMARK] = {"benchmark", false},
    [HSM_USE_AUDIT] = {"audit", true},
    [HSM_USE_KEY_GENERATION] = {"key-generation", true},
    [HSM_USE_KEY_DESTRUCTION] = {"key-destruction", true},
};

const char *
hsm_use_word(enum hsm_use_kind kind)
{
    return kinds[(size_t)kind < HSM_USE_KINDS ? kind : HSM_USE_UNSPECIFIED].word;
}

bool
hsm_use_is_durable(enum hsm_use_kind kind)
{
    return kinds[(size_t)kind < HSM_USE_KINDS ? kind : HSM_USE_UNSPECIFIED].durable;
}
