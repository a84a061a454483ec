/* sti-cert.c - requests, certificates, chains and the CRL, from the command line. */

#include <stdio.h>
#include <time.h>

#include <certs/chain.h>
#include <hsm/defer.h>

#include "arguments.h"
#include "common.h"
#include "crl.h"
#include "issue.h"
#include "lint.h"
#include "scope.h"
#include "verify.h"

static enum hsm_status
show(const struct arguments *arguments)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    time_t now = 0;
    enum hsm_status st = time_of(arguments, &now);

    if (st == HSM_OK)
        st = certs_chain_read(arguments->operands.first, &chain);
    return st == HSM_OK ? certs_chain_show(chain, now, stdout) : st;
}

static const struct command commands[] = {
    {"show", "at", "FILE", "print certificates as a SHAKEN person reads them",
     "FILE holds PEM certificates, or one in DER. Nothing is verified but who signed whom.\n",
     show},
    {"csr",
     "token key! module pin-source quirks journal country state locality organization common-name "
     "ca dns "
     "ip "
     "out " LIST_OPTIONS " " CONSTRAINTS_OPTIONS,
     NULL, "make a certificate request (PKCS#10) with a token key",
     "Without any part of a subject the subject is empty, which CAs of service providers accept.\n",
     csr},
    {"issue",
     "profile! token key! module pin-source quirks journal csr issuer subject-cert country state "
     "locality "
     "organization common-name dns ip policy path-length days not-before not-after backdate "
     "crl-url crl-issuer out tnauthlist-url numbers-under-spc " LIST_OPTIONS
     " " CONSTRAINTS_OPTIONS,
     NULL, "issue a certificate of a profile with a token key", issue_more, issue},
    {"tnauthlist", "out " LIST_OPTIONS, NULL, "write a TNAuthList for certificates to refer to",
     tnauthlist_more, tnauthlist},
    {"verify",
     "anchors! intermediates purpose ca-keys numbers-under-spc any-tnauthlist crl crl-signer "
     "pa-anchors any-crl "
     "at json",
     "CHAIN", "verify a chain up to a trusted root", verify_more, verify},
    {"lint", "json date", "FILE...", "judge certificates by the SHAKEN certificate profile",
     lint_more, lint},
    {"rules", "json", NULL, "print the rules that lint judges by", NULL, lint_rules},
    {"crl show", "", "FILE", "print a CRL (PEM or DER) with its entries", NULL, crl_show},
    {"crl verify", "crl-signer! pa-anchors! crl-url previous at", "FILE",
     "verify a CRL up to the STI-PA's root", crl_verify_more, crl_verify},
    {"crl issue",
     "token key! module pin-source quirks journal issuer! crl-url! signer-url previous crl-signer "
     "pa-anchors "
     "revoke reason hours out",
     NULL, "issue the STI-PA's CRL with a token key", crl_issue_more, crl_issue},
};

static const struct option_table table = {
    .program = "sti-cert",
    .rows = argument_rows,
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
    .arguments_size = sizeof(struct arguments),
    .operands_offset = offsetof(struct arguments, operands),
};

int
main(int argc, char **argv)
{
    return options_main(&table, argc, argv);
}
