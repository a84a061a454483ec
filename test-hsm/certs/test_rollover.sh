#!/bin/sh
# test_rollover.sh - run the commands of docs/ROLLOVER.md in order, unchanged.
#
#   test_rollover.sh SOURCE_DIR BIN_DIR
set -eu

# shellcheck source=test-hsm/certs/document.sh
. "$1/test-hsm/certs/document.sh"
document_open "$1" "$2"
document_run ROLLOVER.md 11
document_has_no_key

# `! command` does not end a script, so what both must refuse is checked again here.
refused() {
    if "$@" >said 2>&1; then
        echo "must be refused: $*"
        exit 1
    fi
}
refused sti-cert verify --anchors root-g2.pem old.chain.pem
refused openssl verify -CAfile root-g2.pem -untrusted issuing-g1.pem old.pem
cat new.pem issuing-g2.pem >alone.pem
refused sti-cert verify --anchors root-g1.pem alone.pem
refused openssl verify -CAfile root-g1.pem -untrusted issuing-g2.pem new.pem

# Each certificate has the subject and issuer that its name implies; none of them is a root.
names() {
    openssl x509 -in "$1" -noout -subject -issuer -nameopt RFC2253 | tr '\n' ' '
}
[ "$(names g2-by-g1.pem)" = "subject=CN=Example SHAKEN ROOT G2,O=Example STI-CA,C=US \
issuer=CN=Example SHAKEN ROOT,O=Example STI-CA,C=US " ]
[ "$(names g1-by-g2.pem)" = "subject=CN=Example SHAKEN ROOT,O=Example STI-CA,C=US \
issuer=CN=Example SHAKEN ROOT G2,O=Example STI-CA,C=US " ]

sti-cert lint root-g1.pem root-g2.pem g2-by-g1.pem g1-by-g2.pem issuing-g2.pem issuing-g3.pem \
    new.pem newest.pem

# The old key was destroyed, so the old root can sign nothing more.
refused sti-cert issue --profile sti-cross --subject-cert root-g2.pem --issuer root-g1.pem \
    --key 'pkcs11:token=sti-ca;object=root-g1' --pin-source file:pin \
    --crl-url https://sti-pa.example/crl --crl-issuer pa-crl.pem
grep -q 'not found' said || {
    cat said
    exit 1
}

# A root is certified by another root, not by itself, and only while both are valid.
refused sti-cert issue --profile sti-cross --subject-cert root-g2.pem --issuer root-g2.pem \
    --key 'pkcs11:token=sti-ca;object=root-g2' --pin-source file:pin \
    --crl-url https://sti-pa.example/crl --crl-issuer pa-crl.pem
grep -q 'is the issuer' said
refused sti-cert issue --profile sti-cross --subject-cert root-g1.pem --issuer root-g2.pem \
    --key 'pkcs11:token=sti-ca;object=root-g2' --pin-source file:pin --days 36000 \
    --crl-url https://sti-pa.example/crl --crl-issuer pa-crl.pem
grep -q 'not valid for all' said
echo "docs/ROLLOVER.md: $blocks blocks hold"
