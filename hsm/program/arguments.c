/* arguments.c - the options of sti-hsm. */
#include "arguments.h"

#include <stdlib.h>

const struct option_row argument_rows[] = {
    {"module", "PATH", AT(module), "PKCS#11 module; else the URI's module-path, else $STI_MODULE"},
    {"token", "URI", LIST(tokens), "the token, such as pkcs11:token=sti-ca"},
    {"key", "URI", AT(key), "the key, such as \"pkcs11:token=sti-ca;object=root\""},
    {"label", "LABEL", AT(label), "the name of what is made"},
    {"so-pin-source", "SOURCE", AT(so_pin_source), "PIN of the security officer; else asked for"},
    {"pin-source", "SOURCE", AT(pin_source),
     "PIN of the user: file:PATH, fd:N, credential:NAME or prompt;\n"
     "                          else the URI's pin-source, else asked for"},
    {"quirks", "WORDS", AT(quirks),
     "what the module needs done differently (docs/HSM.md); else what is known"},
    {"journal", "DIR", AT(journal),
     "where uses of keys are written; else $STI_JOURNAL, else nowhere"},
    {"dir", "DIR", AT(dir), "of the journal; else $STI_JOURNAL"},
    {"file", "NAME", AT(file), "one of its files; index for what became of them"},
    {"record", "N", AT(record), "its number in its file"},
    {"public-key", "PEM", AT(public_key),
     "the journal's key, kept elsewhere; else what lies in the journal itself"},
    {"checkpoint", "FILE", AT(checkpoint),
     "checkpoints that were kept elsewhere, one after another"},
    {"check", "FILE", AT(check), "a proof to be checked, with --public-key; needs no journal"},
    {"kind", "KIND", AT(kind), "only these: certificate, passport, crl ..."},
    {"who", "NAME", AT(who), "only what was asked for by NAME"},
    {"signed-digest", "HEX", AT(digest_of), "only what has this SHA-256"},
    {"token-count", "N", AT(token_count), "signatures that the token itself has counted"},
    {"counted-before", "N", AT(counted_before),
     "what its counter was when the journal was begun; 0"},
    {"in", "FILE", AT(in), "what to sign; - is standard input, and the default"},
    {"out", "FORM", AT(out), "R || S as base64url (default), hex or raw; or der"},
    {"yes", NULL, SWITCH(yes), "do not ask"},
    {"route", "ROUTE", AT(route), "libp11 (default) or direct"},
    {"sessions", "N", AT(sessions), "the most to try; 32"},
    {"seconds", "S", AT(seconds), "for each measurement; 1"},
    {"json", NULL, SWITCH(json), "print JSON instead of a table"},
    {"report", "PREFIX", AT(report),
     "write PREFIX.jws (signed), .json, .txt and .html; else text on standard output"},
    {"attempt", NULL, SWITCH(attempt), "try to take every private key; says first what it will do"},
    {"certificates", "PATH", LIST(certificates),
     "certificates that are not on the token: a file or a directory; may be given again"},
    {"uncertified", "LABELS", AT(uncertified),
     "keys that need no certificate, between commas, such as acme-account"},
    {"attestation", "FILE", AT(attestation), "the vendor's attestation certificates, PEM"},
    {"attestation-root", "FILE", AT(attestation_root), "the vendor's root certificates, PEM"},
    {"files", "PATH", LIST(files),
     "search a file or a directory for private keys; may be given again"},
    {"process", "PID", LIST(processes),
     "search the memory of a process and its children; may be given again"},
    {"secret-source", "SOURCE", AT(secret_source),
     "scalars of test keys to search for: one line of hex, as --pin-source"},
    {"nonce", "TEXT", AT(nonce), "the auditor's, for the report"},
    {"signer", "FILE", AT(signer), "the audit key's public half or certificate, PEM"},
    {"html", NULL, SWITCH(html), "print HTML instead of text"},
    {"log-format", "FORM", AT(log_format), "text (default) or json, on standard error"},
    {"log-level", "LEVEL", AT(log_level), "error, warning, info (default) or debug"},
    {.name = NULL},
};

void
arguments_complete(const struct command *command, struct arguments *arguments)
{
    for (size_t i = 0; arguments->tokens[i] != NULL; i++)
        arguments->token = arguments->tokens[i];
    if (arguments->journal == NULL && options_take(command, "journal"))
        arguments->journal = getenv("STI_JOURNAL");
}
