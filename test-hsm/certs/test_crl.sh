#!/bin/sh
# test_crl.sh - sti-cert crl issue and verify, and verify with that CRL, keys in a token.
#
#   test_crl.sh SOURCE_DIR BIN_DIR
set -eu

PATH="$2:$PATH"
export STI_MODULE="${STI_MODULE:-/usr/lib/softhsm/libsofthsm2.so}"
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
cd "$directory"
umask 077
echo 2468 >pin
echo 13579 >so-pin
sti-hsm token init --label pa --pin-source file:pin --so-pin-source file:so-pin >/dev/null
for key in pa-root pa-crl ca leaf; do
    sti-hsm key generate --token pkcs11:token=pa --label $key --pin-source file:pin >/dev/null
done
tests=0

# with_key LABEL ARGUMENT...: sti-cert with that key
with_key() {
    label=$1
    shift
    sti-cert "$@" --key "pkcs11:token=pa;object=$label" --pin-source file:pin </dev/null
}

# expect STATUS TEXT COMMAND...: requires that status, and that text on either stream
expect() {
    status=$1
    text=$2
    shift 2
    code=0
    "$@" >said 2>&1 </dev/null || code=$?
    if [ "$code" -ne "$status" ] || ! grep -qF -- "$text" said; then
        echo "$*: status $code, wanted $status and \"$text\":"
        cat said
        exit 1
    fi
    tests=$((tests + 1))
}

url=https://sti-pa.example/crl
where="--country US --organization Example"

# shellcheck disable=SC2086 # the options are split on purpose
{
    with_key pa-crl csr --out crl.csr
    with_key leaf csr --spc 1234 --out leaf.csr
    with_key pa-root issue --out pa.pem $where --profile pa-root --common-name 'STI-PA Root'
    with_key pa-root issue --out crl.pem $where --profile pa-crl-signer --csr crl.csr \
        --issuer pa.pem --common-name 'STI-PA CRL'
    with_key leaf csr --out other.csr
    with_key pa-root issue --out other.pem $where --profile pa-crl-signer --csr other.csr \
        --issuer pa.pem --common-name 'Other CRL'
    with_key ca issue --out root.pem $where --profile sti-root --common-name 'Example SHAKEN ROOT'
    for leaf in one two; do
        with_key ca issue --out $leaf.pem $where --profile sti-end-entity --csr leaf.csr \
            --issuer root.pem --spc 1234 --crl-url $url --crl-issuer crl.pem
    done
} >log 2>&1 || {
    cat log
    exit 1
}

signer="--crl-signer crl.pem --pa-anchors pa.pem"
verify="sti-cert verify --anchors root.pem $signer"

# shellcheck disable=SC2086 # the options are split on purpose
{
    new="--issuer crl.pem --crl-url $url"
    expect 0 'CRL number 1 with 0 entries' with_key pa-crl crl issue $new --out 1.crl
    expect 0 '1.crl: good, 0 entries' sti-cert crl verify $signer --crl-url $url 1.crl
    expect 0 'good, and not revoked' $verify --crl 1.crl one.pem
    expect 0 '"revocation": "not revoked"' $verify --crl 1.crl --json one.pem

    next="$new --previous 1.crl --pa-anchors pa.pem"
    expect 0 'CRL number 2 with 1 entries' with_key pa-crl crl issue $next --revoke one.pem \
        --reason keyCompromise --hours 1 --out 2.crl
    expect 1 'CN=SHAKEN 1234,O=Example,C=US": is revoked since' $verify --crl 2.crl one.pem
    expect 1 '(keyCompromise)' $verify --crl 2.crl one.pem
    expect 1 '"good": false' $verify --crl 2.crl --json one.pem
    expect 0 'good, and not revoked' $verify --crl 2.crl two.pem

    next="$new --previous 2.crl --pa-anchors pa.pem"
    expect 0 'is on the CRL already' with_key pa-crl crl issue $next --revoke two.pem \
        --revoke one.pem --out 3.crl
    expect 0 'CRL number 3' sti-cert crl show 3.crl
    expect 0 '(unspecified)' sh -c "! $verify --crl 3.crl two.pem"
    expect 0 '(keyCompromise)' sh -c "! $verify --crl 3.crl one.pem"

    expect 0 '3.crl: good, 2 entries' sti-cert crl verify $signer --previous 2.crl 3.crl
    expect 1 'cRLNumber is below' sti-cert crl verify $signer --previous 3.crl 2.crl
    expect 1 'another distribution point' sti-cert crl verify $signer --crl-url $url/2 3.crl
    expect 1 'CRL: expired' sti-cert crl verify $signer --at "$(date -u -d '+2 days' +%FT%TZ)" 3.crl
    expect 1 'unable to get' sti-cert crl verify --crl-signer crl.pem --pa-anchors root.pem 3.crl

    # another issuer's list is not continued unless that issuer is named
    expect 0 'number 1' with_key leaf crl issue --issuer other.pem --crl-url $url --out other.crl
    expect 1 'its issuer is not' with_key pa-crl crl issue $new --pa-anchors pa.pem \
        --previous other.crl --out 4.crl
    expect 0 'number 2' with_key pa-crl crl issue $new --pa-anchors pa.pem \
        --previous other.crl --crl-signer other.pem --out 5.crl
    expect 2 '--previous needs --pa-anchors' with_key pa-crl crl issue $new --previous 3.crl \
        --out 4.crl
    expect 2 '--reason' with_key pa-crl crl issue $new --revoke one.pem --reason removeFromCRL \
        --out 4.crl
    expect 2 '--hours' with_key pa-crl crl issue $new --hours 0 --out 4.crl
    expect 1 'not that of the certificate' with_key ca crl issue $new --out 4.crl
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null \
        -subj /CN=other -set_serial -5 -out negative.pem 2>/dev/null
    expect 1 'its serial number is negative' with_key pa-crl crl issue $new --revoke negative.pem \
        --out 4.crl

    # entries that cannot be taken over: another program's CRL, whose key is in this shell alone
    key=$(openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256)
    printf '%s\n' "$key" | openssl req -new -key /dev/stdin -subj /CN=foreign -out foreign.csr
    expect 0 '' with_key pa-root issue --out foreign.pem $where --profile pa-crl-signer \
        --csr foreign.csr --issuer pa.pem --common-name 'Foreign CRL'
    cat >foreign.conf <<END
[ca]
default_ca = crl
[crl]
database = index.txt
default_md = sha256
default_crl_days = 1
crlnumber = number
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical, @point
[point]
fullname = URI:$url
indirectCRL = TRUE
END
    foreign_crl() { # OUT SERIAL...
        out=$1
        shift
        for serial in "$@"; do
            printf 'R\t400101000000Z\t250101000000Z\t%s\tunknown\t/CN=x%s\n' "$serial" "$serial"
        done >index.txt
        printf 'unique_subject = no\n' >index.txt.attr
        echo 07 >number
        printf '%s\n' "$key" | openssl ca -gencrl -config foreign.conf -keyfile /dev/stdin \
            -cert foreign.pem -out "$out" 2>>log
    }
    long=01$(printf '%040d' 0)
    foreign_crl short.crl 05 06
    foreign_crl long.crl 05 "$long" 06
    carry="$new --pa-anchors pa.pem --crl-signer foreign.pem --previous"
    expect 0 'number 8 with 2 entries' with_key pa-crl crl issue $carry short.crl --out 8.crl
    expect 0 'left out     1' sti-cert crl show long.crl
    expect 1 'long.crl: 1 of its entries' with_key pa-crl crl issue $carry long.crl --out 4.crl

    expect 1 'lacks cRLSign' with_key ca crl issue --issuer root.pem --crl-url $url --out 4.crl
}
[ ! -e 4.crl ] || exit 1
echo "sti-cert crl: $tests expectations hold"
