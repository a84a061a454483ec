/* path_fixture.c - certificates by name, and chains and CRLs made of them. */
#include "path_fixture.h"

#include <openssl/rsa.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NAMES_MAX    64
#define A_DAY        86400

#define END                                                                                        \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }
#define CA(more)                                                                                   \
    {"basicConstraints", "critical,CA:TRUE" more}, {"keyUsage", "critical,keyCertSign"},           \
    {                                                                                              \
        "subjectKeyIdentifier", "hash"                                                             \
    }
#define EE                                                                                         \
    {"basicConstraints", "critical,CA:FALSE"}, {"keyUsage", "critical,digitalSignature"},          \
    {                                                                                              \
        "subjectKeyIdentifier", "hash"                                                             \
    }
#define AKI                                                                                        \
    {                                                                                              \
        "authorityKeyIdentifier", "keyid"                                                          \
    }
#define CRLDP(url)                                                                                 \
    {                                                                                              \
        "crlDistributionPoints", "URI:" url                                                        \
    }

static const struct peer_ext root_exts[] = {CA(""), END};
static const struct peer_ext ca_exts[] = {CA(""), AKI, END};
static const struct peer_ext ca_without_ids[] = {
    {"basicConstraints", "critical,CA:TRUE"}, {"keyUsage", "critical,keyCertSign"}, END};
static const struct peer_ext ca_pathlen_0[] = {CA(",pathlen:0"), AKI, END};
/* permitted: the directoryName CN=permitted */
static const struct peer_ext ca_names[] = {
    CA(""),
    AKI,
    {"nameConstraints",
     "critical,DER:301CA01A3018A41630143112301006035504030C097065726D6974746564"},
    END};
static const struct peer_ext ca_needs_policy[] = {
    CA(""),
    AKI,
    {"certificatePolicies", "DER:300E300C060A6086480186FF09010104"},
    {"policyConstraints", "critical,requireExplicitPolicy:0"},
    END};
static const struct peer_ext ca_unknown_critical[] = {
    CA(""), AKI, {"1.2.3.4.5", "critical,DER:0500"}, END};
static const struct peer_ext ca_other_crl[] = {CA(""), AKI, CRLDP("http://ca.example/its-own.crl"),
                                               END};
/* id-ad-stirTNList, RFC 8226 section 10.1 */
#define LIST_AT(location)                                                                          \
    {                                                                                              \
        "authorityInfoAccess", "1.3.6.1.5.5.7.48.14;" location                                     \
    }
static const struct peer_ext ca_list_elsewhere[] = {CA(""), AKI,
                                                    LIST_AT("URI:https://sp.example/numbers"), END};
static const struct peer_ext ca_list_at_no_url[] = {CA(""), AKI, LIST_AT("DNS:sp.example"), END};
static const struct peer_ext ca_broken_access[] = {
    CA(""), AKI, {"1.3.6.1.5.5.7.1.1", "DER:0500"}, END};
static const struct peer_ext ca_other_access[] = {
    CA(""), AKI, {"authorityInfoAccess", "caIssuers;URI:http://ca.example/root.crt"}, END};
static const struct peer_ext leaf_list_elsewhere[] = {
    EE, AKI, LIST_AT("URI:https://sp.example/numbers"), END};
static const struct peer_ext leaf_ca_of_no_certs[] = {{"basicConstraints", "critical,CA:TRUE"},
                                                      {"keyUsage", "critical,digitalSignature"},
                                                      {"subjectKeyIdentifier", "hash"},
                                                      AKI,
                                                      END};
static const struct peer_ext leaf_exts[] = {EE, AKI, END};
static const struct peer_ext leaf_without_aki[] = {EE, END};
static const struct peer_ext leaf_policy[] = {
    EE, AKI, {"certificatePolicies", "DER:300E300C060A6086480186FF09010104"}, END};
static const struct peer_ext leaf_tls[] = {EE, AKI, {"extendedKeyUsage", "serverAuth"}, END};
static const struct peer_ext leaf_any[] = {
    EE, AKI, {"extendedKeyUsage", "anyExtendedKeyUsage"}, END};
static const struct peer_ext leaf_crl[] = {EE, AKI, CRLDP(PATH_CRL_URL), END};
static const struct peer_ext leaf_other_crl[] = {EE, AKI, CRLDP("https://other-pa.example/crl"),
                                                 END};
/* mustInclude rcd; and the same in the enhanced form */
static const struct peer_ext leaf_constraints[] = {
    EE, AKI, {"1.3.6.1.5.5.7.1.27", "DER:3009A00730051603726364"}, END};
/* the tags implicit */
static const struct peer_ext leaf_bad_list[] = {
    EE, AKI, {"1.3.6.1.5.5.7.1.26", "DER:3006800431323334"}, END};
static const struct peer_ext leaf_both_constraints[] = {
    EE,
    AKI,
    {"1.3.6.1.5.5.7.1.27", "DER:3009A00730051603726364"},
    {"1.3.6.1.5.5.7.1.33", "DER:3009A00730051603726364"},
    END};

/* A key is named after the blank; before it stands the curve, or RSA with its bits. */
static const struct spec {
    const char *name, *cn, *key, *issuer; /* issuer NULL: self-signed */
    const struct peer_ext *exts;
    const char *tnauthlist; /* "SPC", "NUMBER" or "NUMBER+COUNT", separated by blanks */
    int from_days, to_days; /* relative to DATA_NOW; both 0: one day each */
    const char *md;
    long serial;
} specs[] = {
    {.name = "root", .cn = "ROOT", .key = "P-256 root", .exts = root_exts},
    {.name = "int", .cn = "INT", .key = "P-256 int", .issuer = "root", .exts = ca_exts},
    {.name = "leaf", .cn = "SHAKEN 1234", .issuer = "int", .exts = leaf_exts, .tnauthlist = "1234"},
    {.name = "leaf2",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .serial = 2},
    {.name = "no list", .cn = "SHAKEN 1234", .issuer = "int", .exts = leaf_exts},
    {.name = "stranger root", .cn = "STRANGER", .key = "P-256 stranger", .exts = root_exts},
    {.name = "stranger int",
     .cn = "STRANGER INT",
     .key = "P-256 stranger int",
     .issuer = "stranger root",
     .exts = ca_exts},
    {.name = "stranger leaf", .cn = "tls", .issuer = "stranger int", .exts = leaf_tls},

    /* other certificates of the same CA */
    {.name = "int ended",
     .cn = "INT",
     .key = "P-256 int",
     .issuer = "root",
     .exts = ca_exts,
     .from_days = -30,
     .to_days = -1},
    {.name = "int to come",
     .cn = "INT",
     .key = "P-256 int",
     .issuer = "root",
     .exts = ca_exts,
     .from_days = 1,
     .to_days = 30},
    {.name = "int self-signed", .cn = "INT", .key = "P-256 int", .exts = root_exts},
    {.name = "int by stranger",
     .cn = "INT",
     .key = "P-256 int",
     .issuer = "stranger root",
     .exts = ca_exts,
     .serial = 5},
    {.name = "int of another key",
     .cn = "INT",
     .key = "P-256 int 2",
     .issuer = "root",
     .exts = ca_exts},
    {.name = "int other CRL",
     .cn = "INT",
     .key = "P-256 int",
     .issuer = "root",
     .exts = ca_other_crl},
    {.name = "root ended",
     .cn = "ROOT",
     .key = "P-256 root",
     .exts = root_exts,
     .from_days = -30,
     .to_days = -1},

    /* two CAs that signed each other, one of which the root signed as well */
    {.name = "a by b", .cn = "A", .key = "P-256 a", .issuer = "b by a", .exts = ca_exts},
    {.name = "b by a", .cn = "B", .key = "P-256 b", .issuer = "a by root", .exts = ca_exts},
    {.name = "a by root", .cn = "A", .key = "P-256 a", .issuer = "root", .exts = ca_exts},
    {.name = "leaf of a",
     .cn = "SHAKEN 1234",
     .issuer = "a by root",
     .exts = leaf_exts,
     .tnauthlist = "1234"},

    /* a root that renews its key (RFC 4210 section 4.4): four certificates with one name */
    {.name = "new root", .cn = "ROOT", .key = "P-256 new root", .exts = root_exts},
    {.name = "new by old",
     .cn = "ROOT",
     .key = "P-256 new root",
     .issuer = "root",
     .exts = ca_exts},
    {.name = "old by new",
     .cn = "ROOT",
     .key = "P-256 root",
     .issuer = "new root",
     .exts = ca_exts},
    {.name = "int of new", .cn = "NEW", .key = "P-256 n", .issuer = "new root", .exts = ca_exts},
    {.name = "leaf of new",
     .cn = "SHAKEN 1234",
     .issuer = "int of new",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    /* the same without key identifiers, so that only signatures distinguish the keys */
    {.name = "plain root", .cn = "PLAIN", .key = "P-256 plain", .exts = ca_without_ids},
    {.name = "plain new root", .cn = "PLAIN", .key = "P-256 plain 2", .exts = ca_without_ids},
    {.name = "plain new by old",
     .cn = "PLAIN",
     .key = "P-256 plain 2",
     .issuer = "plain root",
     .exts = ca_without_ids},
    {.name = "plain leaf",
     .cn = "SHAKEN 1234",
     .issuer = "plain new root",
     .exts = leaf_without_aki,
     .tnauthlist = "1234"},

    /* a long path */
    {.name = "i1", .cn = "I1", .key = "P-256 i1", .issuer = "root", .exts = ca_exts},
    {.name = "i2", .cn = "I2", .key = "P-256 i2", .issuer = "i1", .exts = ca_exts},
    {.name = "i3", .cn = "I3", .key = "P-256 i3", .issuer = "i2", .exts = ca_exts},
    {.name = "i4", .cn = "I4", .key = "P-256 i4", .issuer = "i3", .exts = ca_exts},
    {.name = "i5", .cn = "I5", .key = "P-256 i5", .issuer = "i4", .exts = ca_exts},
    {.name = "i6", .cn = "I6", .key = "P-256 i6", .issuer = "i5", .exts = ca_exts},
    {.name = "i7", .cn = "I7", .key = "P-256 i7", .issuer = "i6", .exts = ca_exts},
    {.name = "i8", .cn = "I8", .key = "P-256 i8", .issuer = "i7", .exts = ca_exts},
    {.name = "leaf of i7", .cn = "9", .issuer = "i7", .exts = leaf_exts, .tnauthlist = "1234"},
    {.name = "leaf of i8", .cn = "10", .issuer = "i8", .exts = leaf_exts, .tnauthlist = "1234"},

    /* other keys and signatures */
    {.name = "p384 root", .cn = "P384", .key = "P-384 root", .exts = root_exts, .md = "SHA384"},
    {.name = "p384 int",
     .cn = "P384 INT",
     .key = "P-384 int",
     .issuer = "p384 root",
     .exts = ca_exts,
     .md = "SHA384"},
    {.name = "p384 leaf",
     .cn = "SHAKEN 1234",
     .issuer = "p384 int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .md = "SHA384"},
    {.name = "p521 root", .cn = "P521", .key = "P-521 root", .exts = root_exts, .md = "SHA512"},
    {.name = "p521 leaf",
     .cn = "SHAKEN 1234",
     .issuer = "p521 root",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .md = "SHA512"},
    {.name = "rsa root", .cn = "RSA", .key = "RSA-2048 root", .exts = root_exts},
    {.name = "rsa leaf",
     .cn = "SHAKEN 1234",
     .issuer = "rsa root",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "short rsa root", .cn = "SHORT", .key = "RSA-1024 root", .exts = root_exts},
    {.name = "short rsa leaf",
     .cn = "SHAKEN 1234",
     .issuer = "short rsa root",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "k1 root", .cn = "K1", .key = "secp256k1 root", .exts = root_exts},
    {.name = "k1 leaf",
     .cn = "SHAKEN 1234",
     .issuer = "k1 root",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "leaf on P-384",
     .cn = "SHAKEN 1234",
     .key = "P-384 leaf",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "sha1 leaf",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .md = "SHA1"},
    {.name = "sha384 leaf",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .md = "SHA384"},

    /* constraints of a CA certificate on those below it */
    {.name = "int pathlen 0",
     .cn = "P0",
     .key = "P-256 p0",
     .issuer = "root",
     .exts = ca_pathlen_0},
    {.name = "leaf of pathlen 0",
     .cn = "SHAKEN 1234",
     .issuer = "int pathlen 0",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "int below pathlen 0",
     .cn = "P1",
     .key = "P-256 p1",
     .issuer = "int pathlen 0",
     .exts = ca_exts},
    {.name = "leaf below pathlen 0",
     .cn = "SHAKEN 1234",
     .issuer = "int below pathlen 0",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "int with names", .cn = "NC", .key = "P-256 nc", .issuer = "root", .exts = ca_names},
    {.name = "leaf of other names",
     .cn = "SHAKEN 1234",
     .issuer = "int with names",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "leaf of these names",
     .cn = "permitted",
     .issuer = "int with names",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "int needs policy",
     .cn = "POLICY",
     .key = "P-256 policy",
     .issuer = "root",
     .exts = ca_needs_policy},
    {.name = "leaf with policy",
     .cn = "SHAKEN 1234",
     .issuer = "int needs policy",
     .exts = leaf_policy,
     .tnauthlist = "1234"},
    {.name = "leaf without policy",
     .cn = "SHAKEN 1234",
     .issuer = "int needs policy",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "int unknown critical",
     .cn = "UNKNOWN",
     .key = "P-256 unknown",
     .issuer = "root",
     .exts = ca_unknown_critical},
    {.name = "leaf of unknown critical",
     .cn = "SHAKEN 1234",
     .issuer = "int unknown critical",
     .exts = leaf_exts,
     .tnauthlist = "1234"},

    /* properties of an end-entity certificate */
    {.name = "leaf for tls",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_tls,
     .tnauthlist = "1234"},
    {.name = "leaf for any",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_any,
     .tnauthlist = "1234"},
    {.name = "leaf ended",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .from_days = -30,
     .to_days = -1},
    {.name = "leaf to come",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .from_days = 1,
     .to_days = 30},
    {.name = "leaf with constraints",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_constraints,
     .tnauthlist = "1234"},
    {.name = "leaf with bad list", .cn = "SHAKEN 1234", .issuer = "int", .exts = leaf_bad_list},
    {.name = "delegate with bad list",
     .cn = "SHAKEN 1234",
     .issuer = "sp ca",
     .exts = leaf_bad_list},
    {.name = "leaf with both constraints",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_both_constraints,
     .tnauthlist = "1234"},
    {.name = "leaf with crl",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_crl,
     .tnauthlist = "1234",
     .serial = 77},
    {.name = "leaf with other crl",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_other_crl,
     .tnauthlist = "1234",
     .serial = 78},
    {.name = "crl signer", .cn = "CRL", .key = "P-256 crl", .exts = root_exts},

    /* delegates, RFC 9060 */
    {.name = "sp ca",
     .cn = "SP CA",
     .key = "P-256 sp",
     .issuer = "int",
     .exts = ca_exts,
     .tnauthlist = "1234 12155550100+100"},
    {.name = "delegate",
     .cn = "Dentist",
     .issuer = "sp ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550150"},
    {.name = "delegate of too many",
     .cn = "Dentist",
     .issuer = "sp ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550190+20"},
    {.name = "delegate of another spc",
     .cn = "Dentist",
     .issuer = "sp ca",
     .exts = leaf_exts,
     .tnauthlist = "5678"},
    {.name = "delegate of nothing", .cn = "Dentist", .issuer = "sp ca", .exts = leaf_exts},
    {.name = "delegate ca",
     .cn = "Delegate CA",
     .key = "P-256 delegate",
     .issuer = "sp ca",
     .exts = ca_exts,
     .tnauthlist = "12155550110+10"},
    {.name = "delegate of delegate",
     .cn = "Dentist",
     .issuer = "delegate ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550115"},
    {.name = "delegate beyond delegate",
     .cn = "Dentist",
     .issuer = "delegate ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550150"},
    {.name = "plain ca",
     .cn = "CA without list",
     .key = "P-256 without list",
     .issuer = "delegate ca",
     .exts = ca_exts},
    {.name = "delegate beyond plain ca",
     .cn = "Dentist",
     .issuer = "plain ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550150"},
    {.name = "spc ca",
     .cn = "SPC CA",
     .key = "P-256 spc",
     .issuer = "int",
     .exts = ca_exts,
     .tnauthlist = "1234"},
    {.name = "delegate under spc",
     .cn = "Dentist",
     .issuer = "spc ca",
     .exts = leaf_exts,
     .tnauthlist = "12155550150"},
    {.name = "ca of list elsewhere",
     .cn = "ELSEWHERE",
     .key = "P-256 elsewhere",
     .issuer = "int",
     .exts = ca_list_elsewhere},
    {.name = "ca of list here and elsewhere",
     .cn = "ELSEWHERE",
     .key = "P-256 elsewhere",
     .issuer = "int",
     .exts = ca_list_elsewhere,
     .tnauthlist = "1234"},
    {.name = "ca of list at no URL",
     .cn = "ELSEWHERE",
     .key = "P-256 elsewhere",
     .issuer = "int",
     .exts = ca_list_at_no_url},
    {.name = "ca of broken access",
     .cn = "ELSEWHERE",
     .key = "P-256 elsewhere",
     .issuer = "int",
     .exts = ca_broken_access},
    {.name = "ca of other access",
     .cn = "ELSEWHERE",
     .key = "P-256 elsewhere",
     .issuer = "int",
     .exts = ca_other_access},
    {.name = "leaf of list elsewhere",
     .cn = "SHAKEN 1234",
     .issuer = "ca of list elsewhere",
     .exts = leaf_exts,
     .tnauthlist = "1234"},
    {.name = "leaf with list elsewhere",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_list_elsewhere},
    {.name = "leaf with list here and elsewhere",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_list_elsewhere,
     .tnauthlist = "1234"},
    {.name = "ca of no certificates",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_ca_of_no_certs,
     .tnauthlist = "1234"},
    {.name = "leaf of negative serial",
     .cn = "SHAKEN 1234",
     .issuer = "int",
     .exts = leaf_exts,
     .tnauthlist = "1234",
     .serial = -128},
    {.name = "int of negative serial",
     .cn = "INT",
     .key = "P-256 int",
     .issuer = "root",
     .exts = ca_exts,
     .serial = -1},
};

static struct {
    const char *name;
    EVP_PKEY *key;
} keys[NAMES_MAX];
static X509 *certs[COUNT(specs)];

static EVP_PKEY *
make_key(const char *name)
{
    size_t len = strcspn(name, " ");
    char kind[16];

    peer_must(len < sizeof(kind), name);
    memcpy(kind, name, len);
    kind[len] = '\0';
    if (strncmp(kind, "RSA-", 4) == 0) {
        EVP_PKEY *key = EVP_RSA_gen((unsigned)strtoul(kind + 4, NULL, 10));

        peer_must(key != NULL, name);
        return key;
    }
    return peer_key_new(kind);
}

static EVP_PKEY *
key_named(const char *name)
{
    size_t i = 0;

    while (i < NAMES_MAX && keys[i].name != NULL && strcmp(keys[i].name, name) != 0)
        i++;
    peer_must(i < NAMES_MAX, "too many keys");
    if (keys[i].name == NULL) {
        keys[i].name = name;
        keys[i].key = make_key(name);
    }
    return keys[i].key;
}

static EVP_PKEY *
key_of(const struct spec *spec)
{
    return key_named(spec->key == NULL ? "P-256 leaf" : spec->key);
}

static size_t
find(const char *name, size_t len)
{
    for (size_t i = 0; i < COUNT(specs); i++) {
        if (strlen(specs[i].name) == len && strncmp(specs[i].name, name, len) == 0)
            return i;
    }
    peer_must(false, name);
    return 0;
}

static struct certs_tn_entry
entry_of(const char *word)
{
    struct certs_tn_entry entry = {.kind = CERTS_TN_SPC};
    const char *plus = strchr(word, '+');
    size_t len = plus == NULL ? strlen(word) : (size_t)(plus - word);

    memcpy(entry.text, word, len);
    if (len > 4) {
        entry.kind = plus == NULL ? CERTS_TN_ONE : CERTS_TN_RANGE;
        entry.count = plus == NULL ? 1 : strtoull(plus + 1, NULL, 10);
    }
    return entry;
}

/* "DER:30..." as the value of an extension. */
static void
list_text(const char *words, char *out, size_t size)
{
    struct certs_tn_entry entries[4];
    struct certs_tnauthlist *list = NULL;
    char copy[128];
    size_t count = 0, len, at;
    const uint8_t *der;

    snprintf(copy, sizeof(copy), "%s", words);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        entries[count++] = entry_of(word);
    peer_must(certs_tnauthlist_new(entries, count, &list, NULL) == HSM_OK, words);
    der = certs_tnauthlist_der(list, &len);
    at = (size_t)snprintf(out, size, "DER:");
    for (size_t i = 0; i < len; i++)
        at += (size_t)snprintf(out + at, size - at, "%02X", der[i]);
    certs_tnauthlist_free(list);
}

static X509 *
make_cert(const struct spec *spec)
{
    const struct spec *issuer = NULL;
    struct peer_ext exts[16] = {{NULL, NULL}};
    char list[256];
    size_t n = 0;

    for (const struct peer_ext *ext = spec->exts; ext->oid != NULL; ext++)
        exts[n++] = *ext;
    if (spec->tnauthlist != NULL) {
        list_text(spec->tnauthlist, list, sizeof(list));
        exts[n++] = (struct peer_ext){"1.3.6.1.5.5.7.1.26", list};
    }
    exts[n] = (struct peer_ext){NULL, NULL};
    if (spec->issuer != NULL)
        issuer = &specs[find(spec->issuer, strlen(spec->issuer))];
    return peer_cert(&(struct peer_spec){
        .cn = spec->cn,
        .key = key_of(spec),
        .issuer = issuer == NULL ? NULL : path_cert(issuer->name),
        .issuer_key = issuer == NULL ? NULL : key_of(issuer),
        .not_before = DATA_NOW + (spec->from_days == 0 ? -1 : spec->from_days) * A_DAY,
        .not_after = DATA_NOW + (spec->to_days == 0 ? 1 : spec->to_days) * A_DAY,
        .exts = exts,
        .serial = spec->serial,
        .md = spec->md == NULL ? NULL : EVP_get_digestbyname(spec->md)});
}

static X509 *
cert_at(size_t i)
{
    if (certs[i] == NULL)
        certs[i] = make_cert(&specs[i]);
    return certs[i];
}

X509 *
path_cert(const char *name)
{
    return cert_at(find(name, strlen(name)));
}

EVP_PKEY *
path_key(const char *name)
{
    return key_of(&specs[find(name, strlen(name))]);
}

struct certs_chain *
path_chain(const char *names)
{
    struct certs_chain *chain = NULL;

    peer_must(certs_chain_new(&chain) == HSM_OK, "memory");
    while (*names != '\0') {
        size_t len = strcspn(names, ",");

        peer_must(certs_chain_add(chain, cert_at(find(names, len))) == HSM_OK, names);
        names += len;
        names += strspn(names, ", ");
    }
    return chain;
}

/* An entry with its certificateIssuer (RFC 5280 section 5.3.3). */
static void
add_revoked(X509_CRL *crl, const X509 *cert)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, DATA_NOW - A_DAY);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();

    GENERAL_NAME_set0_value(name, GEN_DIRNAME, X509_NAME_dup(X509_get_issuer_name(cert)));
    sk_GENERAL_NAME_push(names, name);
    peer_must(X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)X509_get0_serialNumber(cert)) ==
                      1 &&
                  X509_REVOKED_set_revocationDate(entry, time) == 1 &&
                  X509_REVOKED_add1_ext_i2d(entry, NID_certificate_issuer, names, 1, 0) == 1 &&
                  X509_CRL_add0_revoked(crl, entry) == 1,
              "CRL entry");
    GENERAL_NAMES_free(names);
    ASN1_TIME_free(time);
}

static void
add_crl_exts(X509_CRL *crl)
{
    static const struct peer_ext exts[] = {
        {"issuingDistributionPoint", "critical,fullname:URI:" PATH_CRL_URL ",indirectCRL:TRUE"},
        {"2.5.29.20", "DER:020101"},
    };
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, NULL, NULL, NULL, crl, 0);
    X509V3_set_ctx_nodb(&ctx);
    for (size_t i = 0; i < COUNT(exts); i++) {
        X509_EXTENSION *ext = X509V3_EXT_nconf(NULL, &ctx, exts[i].oid, exts[i].value);

        peer_must(ext != NULL && X509_CRL_add_ext(crl, ext, -1) == 1, exts[i].oid);
        X509_EXTENSION_free(ext);
    }
}

struct certs_crl *
path_crl(const char *names)
{
    struct certs_chain *revoked = path_chain(names);
    X509_CRL *made = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, DATA_NOW);
    struct certs_crl *crl = NULL;
    uint8_t *der = NULL;
    int len;

    X509_CRL_set_version(made, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(made, X509_get_subject_name(path_cert("crl signer")));
    X509_CRL_set1_lastUpdate(made, time);
    X509_CRL_set1_nextUpdate(made, time);
    add_crl_exts(made);
    for (size_t i = 0; i < certs_chain_len(revoked); i++)
        add_revoked(made, certs_chain_get(revoked, i));
    peer_must(X509_CRL_sign(made, key_named("P-256 crl"), EVP_sha256()) > 0, "CRL");
    len = i2d_X509_CRL(made, &der);
    peer_must(certs_crl_parse(der, (size_t)len, &crl, NULL) == HSM_OK, "CRL");
    OPENSSL_free(der);
    ASN1_TIME_free(time);
    X509_CRL_free(made);
    certs_chain_free(revoked);
    return crl;
}

void
path_fixture_free(void)
{
    for (size_t i = 0; i < COUNT(specs); i++) {
        X509_free(certs[i]);
        certs[i] = NULL;
    }
    for (size_t i = 0; i < NAMES_MAX && keys[i].name != NULL; i++) {
        EVP_PKEY_free(keys[i].key);
        keys[i].name = NULL;
    }
}
