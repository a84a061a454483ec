/* authority_migrations.c - the tables of the STI-PA (acme/store.h describes migrations). */

#include <acme/authority.h>

#include <acme/events.h>

const char *const acme_authority_migrations[] = {
    "CREATE TABLE account ("
    " id TEXT PRIMARY KEY,"
    " \"user\" TEXT NOT NULL UNIQUE,"
    " salt {octets} NOT NULL,"
    " hash {octets} NOT NULL,"
    " scrypt_n {int} NOT NULL,"
    " scrypt_r {int} NOT NULL,"
    " scrypt_p {int} NOT NULL,"
    " ca {int} NOT NULL,"
    " created {int} NOT NULL){strict};"
    "CREATE TABLE account_spc ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " spc TEXT NOT NULL,"
    " PRIMARY KEY (account, spc)){strict};"
    "CREATE TABLE login_failure ("
    " \"user\" TEXT NOT NULL,"
    " at {int} NOT NULL){strict};"
    "CREATE INDEX login_failure_user ON login_failure(\"user\", at);"
    "CREATE TABLE session ("
    " access {octets} PRIMARY KEY," /* SHA-256 of the access token */
    " refresh {octets} NOT NULL UNIQUE," /* SHA-256 of the refresh token */
    " account TEXT NOT NULL REFERENCES account(id),"
    " access_until {int} NOT NULL,"
    " refresh_until {int} NOT NULL){strict};"
    "CREATE TABLE spc_token ("
    " jti TEXT PRIMARY KEY,"
    " account TEXT NOT NULL REFERENCES account(id),"
    " spc TEXT NOT NULL,"
    " ca {int} NOT NULL,"
    " fingerprint TEXT NOT NULL,"
    " issued {int} NOT NULL,"
    " expires {int} NOT NULL){strict};"
    "CREATE TABLE trusted_ca ("
    " sha256 TEXT PRIMARY KEY,"
    " der {octets} NOT NULL,"
    " added {int} NOT NULL){strict};"
    "CREATE TABLE document ("
    " kind {int} NOT NULL," /* enum authority_document */
    " number {int} NOT NULL," /* sequence of the list, number of the CRL */
    " expires {int} NOT NULL,"
    " signer TEXT NOT NULL," /* URL of the signer's chain */
    " says {octets} NOT NULL," /* SHA-256 of its contents without number and times */
    " body {octets} NOT NULL,"
    " PRIMARY KEY (kind, number)){strict};"
    "CREATE TABLE signer_chain ("
    " id TEXT PRIMARY KEY,"
    " pem TEXT NOT NULL){strict};",

    /* STI-CAs have accounts, and the CRL has entries. */
    "ALTER TABLE account ADD COLUMN is_sti_ca {int} NOT NULL DEFAULT 0;"
    "CREATE TABLE ca_issuer ("
    " name {octets} PRIMARY KEY," /* DER; only this STI-CA issues under it */
    " account TEXT NOT NULL REFERENCES account(id)){strict};"
    "CREATE TABLE revocation ("
    " id {id},"
    " issuer {octets} NOT NULL," /* DER */
    " serial {octets} NOT NULL," /* content octets of the INTEGER */
    " reason {int} NOT NULL,"
    " requester TEXT NOT NULL,"
    " account TEXT NOT NULL REFERENCES account(id),"
    " state TEXT NOT NULL CHECK (state IN ('queued', 'revoked', 'refused')),"
    " asked {int} NOT NULL,"
    " decided {int},"
    " entry {int} UNIQUE," /* its number in the CRL, from 1 on */
    " UNIQUE (issuer, serial)){strict};",

    /* Accounts can be suspended, restricted to addresses, and used without a password; events are
     * recorded. */
    ACME_EVENTS_MIGRATION
    "ALTER TABLE account ADD COLUMN suspended TEXT;" /* the reason; NULL: not suspended */
    "ALTER TABLE account ADD COLUMN client TEXT;" /* subject of its client certificate */
    "CREATE UNIQUE INDEX account_client ON account(client);"
    "CREATE TABLE account_source ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " prefix TEXT NOT NULL," /* "ADDRESS/BITS" */
    " PRIMARY KEY (account, prefix)){strict};"
    "CREATE TABLE api_key ("
    " id {id},"
    " digest {octets} NOT NULL UNIQUE," /* SHA-256 */
    " account TEXT NOT NULL REFERENCES account(id),"
    " created {int} NOT NULL,"
    " expires {int} NOT NULL,"
    " revoked {int}){strict};"
    "CREATE INDEX spc_token_account ON spc_token(account, issued);",

    /* Entries leave the CRL. */
    "ALTER TABLE revocation ADD COLUMN not_after {int};" /* of the certificate; NULL: unknown */
    "ALTER TABLE revocation ADD COLUMN outlived {int};" /* of the first CRL later than not_after */
    "ALTER TABLE revocation ADD COLUMN dropped {int};" /* since when it is on no CRL */
    "CREATE INDEX revocation_listed ON revocation(entry)"
    " WHERE entry IS NOT NULL AND dropped IS NULL;",

    /* Attempts to log in are counted by user and address, before the password is checked. */
    "CREATE TABLE rate ("
    " subject TEXT PRIMARY KEY,"
    " used_until {int} NOT NULL){strict};" /* microseconds since 1970 */
    "CREATE TABLE login_address ("
    " account TEXT NOT NULL REFERENCES account(id),"
    " address TEXT NOT NULL," /* an IPv6 address counts by its /64 */
    " at {int} NOT NULL," /* of the last login from this address */
    " PRIMARY KEY (account, address)){strict};"
    "DELETE FROM login_failure;" /* only instances of an earlier version use it */
    "CREATE TABLE published (" /* numbers published before the store was restored from a backup */
    " kind {int} PRIMARY KEY,"
    " number {int} NOT NULL){strict};", /* the highest one of its kind; the next one is higher */

    /* Revocation requests are counted per account, and asserted notAfter times are distinguished
     * from those read from the certificate. */
    "ALTER TABLE revocation ADD COLUMN end_shown {int} NOT NULL DEFAULT 0;" /* read from the leaf */
    "CREATE INDEX revocation_counted ON revocation(account)"
    " WHERE dropped IS NULL AND state <> 'refused';"
    "CREATE INDEX revocation_queued ON revocation(id) WHERE state = 'queued';",

    /* Revocations by the governance authority do not count for the account. */
    "ALTER TABLE revocation ADD COLUMN by_operator {int} NOT NULL DEFAULT 0;",

    /* Expired rows are looked for every minute: find them by an index. */
    "CREATE INDEX rate_used_until ON rate(used_until);"
    "CREATE INDEX session_refresh_until ON session(refresh_until);"
    "CREATE INDEX login_address_at ON login_address(at);"
    "CREATE INDEX revocation_outlived ON revocation(outlived)"
    " WHERE dropped IS NULL AND outlived IS NOT NULL;"
    "DROP INDEX spc_token_account;" /* limits use rate; spc_token records the tokens of each account
                                     */
    ACME_EVENTS_INDEX_MIGRATION,

    /* Attempts to log in are counted in rate, and tokens are forgotten some time after their end.
     */
    "DROP TABLE login_failure;"
    "CREATE INDEX spc_token_expires ON spc_token(expires);",
    NULL,
};
