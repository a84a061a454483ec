#!/bin/sh
# test_sti_cert.sh - the output of sti-cert for the vectors, and its exit status.
#
#   test_sti_cert.sh SOURCE_DIR BIN_DIR
set -eu

data=$1/test-hsm/data/self
PATH="$2:$PATH"
now=2026-01-15T12:00:00Z
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
tests=0

# expect STATUS TEXT ARGUMENT...: requires that status, and that text on either stream.
expect() {
    status=$1
    text=$2
    shift 2
    code=0
    sti-cert "$@" >"$directory/said" 2>&1 </dev/null || code=$?
    if [ "$code" -ne "$status" ] || ! grep -qF -- "$text" "$directory/said"; then
        echo "sti-cert $*: status $code, wanted $status and \"$text\":"
        cat "$directory/said"
        exit 1
    fi
    tests=$((tests + 1))
}

anchors="--anchors $data/sti-ca-root.cert.pem --at $now"
crl="--crl $data/sti-pa.crl.pem --crl-signer $data/pa-crl.cert.pem"
crl="$crl --pa-anchors $data/pa-root.cert.pem"

# shellcheck disable=SC2086 # the options are split on purpose
{
    expect 0 'CN=SHAKEN 1234,O=Example Telecom,C=US: good' verify $anchors "$data/sp-1234.chain.pem"
    expect 0 'good, and not revoked' verify $anchors $crl "$data/sp-1234.chain.pem"
    expect 1 'is revoked' verify $anchors $crl "$data/sp-1234-revoked.chain.pem"
    expect 1 'self-signed' verify $anchors "$data/rogue.chain.pem"
    expect 1 'unable to get local issuer' verify $anchors "$data/sp-1234.cert.pem"
    expect 1 'expired' verify --anchors "$data/sti-ca-root.cert.pem" \
        --at 2026-04-01T00:00:01Z "$data/sp-1234.chain.pem"
    expect 1 'CRL: expired' verify --anchors "$data/sti-ca-root.cert.pem" \
        --at 2026-01-16T00:00:01Z $crl "$data/sp-1234.chain.pem"
    expect 1 'TNAuthList' verify --anchors "$data/pa-root.cert.pem" --at $now \
        "$data/pa-signer.cert.pem"
    expect 0 'good' verify --anchors "$data/pa-root.cert.pem" --at $now --purpose pa-signing \
        "$data/pa-signer.cert.pem"
    expect 0 'issued by    CN=Example SHAKEN ROOT' verify $anchors "$data/sp-1234.chain.pem"
    expect 0 'good' verify $anchors --intermediates "$data/sti-ca-int.cert.pem" \
        "$data/sp-1234.cert.pem"
    expect 0 'good' verify $anchors --ca-keys p384,p521,rsa "$data/sp-1234.chain.pem"
    expect 2 '--ca-keys is' verify $anchors --ca-keys p384,p224 "$data/sp-1234.chain.pem"
    expect 0 '"tnauthlist": "SPC 1234"' verify $anchors --json "$data/sp-1234.chain.pem"
    cat "$data/sti-ca-root.cert.pem" "$data/sti-ca-int.cert.pem" "$data/sp-1234.cert.pem" \
        >"$directory/turned.pem"
    expect 0 'CN=SHAKEN 1234,O=Example Telecom,C=US: good' verify $anchors "$directory/turned.pem"
    expect 2 'go together' verify $anchors --crl "$data/sti-pa.crl.pem" "$data/sp-1234.chain.pem"
    expect 2 '--purpose is' verify $anchors --purpose calls "$data/sp-1234.chain.pem"
    expect 2 '--at' verify --anchors "$data/sti-ca-root.cert.pem" --at yesterday \
        "$data/sp-1234.chain.pem"
}
expect 2 '--anchors is needed' verify "$data/sp-1234.chain.pem"
expect 2 'CHAIN is needed' verify --anchors "$data/sti-ca-root.cert.pem"
expect 1 'No such file' verify --anchors /nonexistent "$data/sp-1234.chain.pem"

expect 0 'signed by    certificate 2' show --at $now "$data/sp-1234.chain.pem"
openssl x509 -in "$data/sp-1234.cert.pem" -outform DER -out "$directory/sp.der"
expect 0 'TNAuthList   SPC 1234' show "$directory/sp.der"
expect 1 'not a "CERTIFICATE"' show "$data/sp-1234.key.pem"
expect 0 'keyCompromise  CN=Example SHAKEN Intermediate' crl show "$data/sti-pa.crl.der"
expect 1 'neither DER nor' crl show "$data/crl.json"

expect 0 'usage: sti-cert COMMAND' --help
expect 0 'sti-end-entity' issue --help
expect 0 'sti-cert ' --version
expect 2 'no such command' frobnicate
expect 2 'no such command' crl
expect 2 'too many arguments' show one two
expect 2 'show: unrecognized option --pin' show --pin 1234 "$data/sp-1234.chain.pem"
expect 2 'is there twice' show --at $now --at $now "$data/sp-1234.chain.pem"
expect 2 'token is needed' csr --key root
expect 2 'not a service provider code' csr --key pkcs11:token=t\;object=k --spc '12 34'
(umask 077 && printf 1234 >"$directory/pin")
expect 2 'pin-value' csr --key 'pkcs11:token=t;object=k?pin-value=1234' --module /nonexistent \
    --pin-source "file:$directory/pin"
expect 2 '--csr and --issuer are needed' issue --profile sti-end-entity --key root
expect 2 'signs itself' issue --profile sti-root --key root --csr "$data/sp-1234.csr.pem"
expect 2 '--days' issue --profile sti-root --key root --days 1e3
echo "sti-cert: $tests expectations hold"
