/* server_migrations.c - the tables of the STI-CA. */

#include "server_internal.h"

#include <acme/events.h>

/* States and JSON are texts, DER is octets; times are seconds since 1970. */
const char *const acme_server_migrations[] = {
    "CREATE TABLE nonce ("
    "  value TEXT PRIMARY KEY,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX nonce_expires ON nonce (expires);"
    "CREATE TABLE account ("
    "  id TEXT PRIMARY KEY,"
    "  status TEXT NOT NULL,"
    "  jwk TEXT NOT NULL,"
    "  thumbprint TEXT NOT NULL UNIQUE,"
    "  contact TEXT NOT NULL,"
    "  created {int} NOT NULL);"
    "CREATE TABLE authz ("
    "  id TEXT PRIMARY KEY,"
    "  account TEXT NOT NULL REFERENCES account (id),"
    "  status TEXT NOT NULL,"
    "  identifier TEXT NOT NULL," /* as sent by the client */
    "  tnauthlist {octets} NOT NULL,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX authz_account ON authz (account);"
    "CREATE TABLE challenge ("
    "  id TEXT PRIMARY KEY,"
    "  authz TEXT NOT NULL UNIQUE REFERENCES authz (id),"
    "  status TEXT NOT NULL,"
    "  token TEXT NOT NULL,"
    "  error TEXT,"
    "  validated {int},"
    "  jti TEXT," /* of the SPC token in the response */
    "  token_exp {int},"
    "  ca {int} NOT NULL DEFAULT 0);"
    "CREATE TABLE acme_order ("
    "  id TEXT PRIMARY KEY,"
    "  account TEXT NOT NULL REFERENCES account (id),"
    "  authz TEXT NOT NULL REFERENCES authz (id),"
    "  status TEXT NOT NULL,"
    "  spc TEXT NOT NULL,"
    "  not_before {int},"
    "  not_after {int},"
    "  error TEXT,"
    "  created {int} NOT NULL,"
    "  expires {int} NOT NULL);"
    "CREATE INDEX acme_order_account ON acme_order (account, id);"
    "CREATE INDEX acme_order_authz ON acme_order (authz);"
    "CREATE INDEX acme_order_status ON acme_order (status, expires);"
    /* An intent to certify, durable before the token signs; a certificate as soon as der is set. */
    "CREATE TABLE issuance ("
    "  order_id TEXT PRIMARY KEY REFERENCES acme_order (id),"
    "  certificate TEXT NOT NULL UNIQUE,"
    "  account TEXT NOT NULL,"
    "  spc TEXT NOT NULL,"
    "  organization TEXT NOT NULL,"
    "  country TEXT NOT NULL,"
    "  point {octets} NOT NULL,"
    "  thumbprint TEXT NOT NULL,"
    "  serial {octets} UNIQUE,"
    "  not_before {int},"
    "  not_after {int},"
    "  under TEXT NOT NULL,"
    "  attempted {int} NOT NULL,"
    "  voided {int} NOT NULL DEFAULT 0,"
    "  der {octets},"
    "  chain TEXT);"
    "CREATE INDEX issuance_thumbprint ON issuance (thumbprint);"
    "CREATE TABLE participant ("
    "  spc TEXT PRIMARY KEY,"
    "  organization TEXT NOT NULL,"
    "  country TEXT NOT NULL);",

    /* Revocations, and whether the STI-PA has accepted them. */
    "CREATE TABLE revocation ("
    "  order_id TEXT PRIMARY KEY REFERENCES issuance (order_id),"
    "  issuer {octets} NOT NULL,"
    "  serial {octets} NOT NULL,"
    "  reason {int} NOT NULL,"
    "  requester TEXT NOT NULL,"
    "  revoked {int} NOT NULL,"
    "  tries {int} NOT NULL DEFAULT 0,"
    "  next_try {int} NOT NULL,"
    "  accepted {int});" /* when the STI-PA accepted it */
    "CREATE INDEX revocation_waiting ON revocation (next_try) WHERE accepted IS NULL;",

    /* Terms, external accounts, replaced certificates, rate limits. */
    "ALTER TABLE account ADD COLUMN terms TEXT;" /* URL of the terms agreed to */
    "ALTER TABLE account ADD COLUMN external_account TEXT;" /* kid of the binding */
    "ALTER TABLE account ADD COLUMN binding TEXT;"
    "CREATE UNIQUE INDEX account_external ON account (external_account)"
    "  WHERE external_account IS NOT NULL;"
    "ALTER TABLE acme_order ADD COLUMN replaces TEXT;" /* certificate identifier of RFC 9773 */
    "CREATE UNIQUE INDEX acme_order_replaces ON acme_order (replaces)"
    "  WHERE replaces IS NOT NULL AND status <> 'invalid';"
    "CREATE TABLE rate ("
    "  subject TEXT PRIMARY KEY,"
    "  used_until {int} NOT NULL);", /* microseconds since 1970 */

    /* The web pages: SPC tokens used there, operators, and indexes for the status page. */
    "CREATE TABLE manual_token ("
    "  jti TEXT PRIMARY KEY," /* RFC 7519 section 4.1.7: unique among issuers */
    "  order_id TEXT NOT NULL REFERENCES acme_order (id),"
    "  expires {int} NOT NULL);"
    "CREATE INDEX manual_token_expires ON manual_token (expires);"
    "CREATE TABLE web_user ("
    "  id TEXT PRIMARY KEY,"
    "  created {int} NOT NULL,"
    "  salt {octets} NOT NULL,"
    "  hash {octets} NOT NULL,"
    "  scrypt_n {int} NOT NULL,"
    "  scrypt_r {int} NOT NULL,"
    "  scrypt_p {int} NOT NULL);"
    "CREATE INDEX acme_order_created ON acme_order (created);"
    "CREATE INDEX issuance_not_after ON issuance (not_after);",

    /* Events: the acts of operators and accounts. */
    ACME_EVENTS_MIGRATION,

    /* An account's orders by state and age, to count the open ones and to list them first. */
    "DROP INDEX acme_order_account;"
    "CREATE INDEX acme_order_of_account ON acme_order (account, status, created);",

    /* recorded: when an intent was written; attempted: when it was last tried. */
    "ALTER TABLE issuance ADD COLUMN recorded {int} NOT NULL DEFAULT 0;"
    /* Authorizations that an account may reuse. */
    "DROP INDEX authz_account;"
    "CREATE INDEX authz_of_account ON authz (account, expires);"
    /* Duties that one process performs for all, and when each is due again. */
    "CREATE TABLE duty ("
    "  name TEXT PRIMARY KEY,"
    "  next {int} NOT NULL);"
    "CREATE INDEX rate_used_until ON rate (used_until);",

    /* An index for the last event of a kind and subject. */
    ACME_EVENTS_INDEX_MIGRATION,
    NULL,
};
