#!/bin/sh
# test_openssl.sh - run the commands of docs/openssl.md in order, unchanged.
#
#   test_openssl.sh SOURCE_DIR BIN_DIR
set -eu

document=$1/docs/openssl.md
bin=$2

for need in openssl softhsm2-util; do
    if ! command -v "$need" >/dev/null; then
        echo "skipped: no $need"
        exit 77
    fi
done
if ! openssl engine -t pkcs11 >/dev/null 2>&1; then
    echo "skipped: no pkcs11 engine (libengine-pkcs11-openssl)"
    exit 77
fi

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/tokens"
cat >"$directory/softhsm2.conf" <<END
directories.tokendir = $directory/tokens
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
END
export SOFTHSM2_CONF="$directory/softhsm2.conf"
export PATH="$bin:$PATH"

awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$document" \
    >"$directory/commands"
blocks=$(grep -c '^```sh$' "$document")
[ "$blocks" -ge 7 ] || {
    echo "docs/openssl.md: only $blocks blocks of commands"
    exit 1
}
cd "$directory"
if ! sh -eux ./commands; then
    echo "docs/openssl.md: a command failed"
    exit 1
fi

# No block may leave a private key outside of the token.
if grep -rl 'PRIVATE KEY' --include='*' . | grep -v '^./tokens/\|^./commands$'; then
    echo "a private key lies in a file"
    exit 1
fi

# The operator decides: the same request under another code, or as a CA, is refused.
export STI_MODULE="${STI_MODULE:-/usr/lib/softhsm/libsofthsm2.so}"
refuse() {
    reason=$1
    shift
    if sti-cert issue --csr sp.csr --issuer sti-ca.pem --pin-source file:pin \
        --key 'pkcs11:token=sti-ca;object=intermediate' --country US --organization X \
        --crl-url https://sti-pa.example/crl --crl-issuer pa-crl.pem --out refused.pem "$@" \
        2>said; then
        echo "issued, but must be refused: $*"
        exit 1
    fi
    if ! grep -q "$reason" said || [ -e refused.pem ]; then
        echo "refused, but not because of \"$reason\":"
        cat said
        exit 1
    fi
}
refuse 'asks for another TNAuthList' --profile sti-end-entity --spc 5678
refuse 'does not ask for a CA' --profile sti-intermediate --common-name 'Rogue SHAKEN'
refuse 'not valid for all' --profile sti-end-entity --spc 1234 --days 36525
refuse 'CN must be' --profile sti-end-entity --spc 1234 --common-name 'SHAKEN 9999'
refuse 'not one; see --help' --profile sti-leaf --spc 1234
echo "docs/openssl.md: $blocks blocks hold"
