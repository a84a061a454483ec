#!/bin/sh
# test_issue.sh - sti-cert csr, issue and tnauthlist with keys in a token: numbers, delegates,
# claim constraints, validity.
#
#   test_issue.sh SOURCE_DIR BIN_DIR
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
sti-hsm token init --label ca --pin-source file:pin --so-pin-source file:so-pin >/dev/null
for key in root intermediate delegate leaf crl; do
    sti-hsm key generate --token pkcs11:token=ca --label $key --pin-source file:pin >/dev/null
done
tests=0

fail() {
    echo "$1"
    cat said
    exit 1
}

# key LABEL ARGUMENT...: sti-cert with that key
with_key() {
    label=$1
    shift
    sti-cert "$@" --key "pkcs11:token=ca;object=$label" --pin-source file:pin </dev/null >said 2>&1
}

# issue OUT ISSUER_KEY ARGUMENT...
issue() {
    out=$1
    key=$2
    shift 2
    with_key "$key" issue --out "$out" --country US --organization Example "$@" ||
        fail "not issued: $out"
    tests=$((tests + 1))
}

# refuse STATUS TEXT ISSUER_KEY ARGUMENT...
refuse() {
    status=$1
    text=$2
    key=$3
    shift 3
    code=0
    with_key "$key" issue --out refused.pem --country US --organization Example "$@" || code=$?
    if [ "$code" -ne "$status" ] || ! grep -qF -- "$text" said || [ -e refused.pem ]; then
        fail "status $code, wanted $status and \"$text\": $*"
    fi
    tests=$((tests + 1))
}

# shows FILE TEXT...: openssl's output for the certificate contains each text
shows() {
    file=$1
    shift
    openssl x509 -in "$file" -noout -text >said
    for text in "$@"; do
        grep -qF -- "$text" said || fail "$file has no \"$text\""
        tests=$((tests + 1))
    done
}

request() {
    out=$1
    key=$2
    shift 2
    with_key "$key" csr --out "$out" "$@" || fail "no request: $out"
}

CRL="--crl-url https://sti-pa.example/crl --crl-issuer crl.pem"
request crl.csr crl
issue pa.pem root --profile pa-root --common-name 'STI-PA Root'
issue crl.pem root --profile pa-crl-signer --csr crl.csr --issuer pa.pem --common-name 'STI-PA CRL'
issue root.pem root --profile sti-root --common-name 'Example SHAKEN ROOT'
request intermediate.csr intermediate --ca
# shellcheck disable=SC2086 # the options are split on purpose
{
    issue intermediate.pem root --profile sti-intermediate --csr intermediate.csr \
        --issuer root.pem --common-name 'Example SHAKEN Intermediate' --path-length 1 $CRL
    refuse 1 'is less' intermediate --profile delegate-ca --csr intermediate.csr \
        --issuer intermediate.pem --common-name D --spc 1234 --path-length 1
}
shows intermediate.pem 'CA:TRUE, pathlen:1'

# a delegate CA and the certificates below it
request delegate.csr delegate --ca --spc 1234 --range 12155550100:100
request leaf.csr leaf --number 12155550150 --permit attest=A --must-exclude rph
openssl req -in leaf.csr -noout -verify >said 2>&1 || fail 'openssl refuses the request'
issue delegate.pem intermediate --profile delegate-ca --csr delegate.csr --issuer intermediate.pem \
    --common-name 'Example Delegate CA' --spc 1234 --range 12155550100:100 --path-length 0
issue leaf.pem delegate --profile delegate-end-entity --csr leaf.csr --issuer delegate.pem \
    --common-name 'Example Customer' --number 12155550150 --permit attest=A --must-exclude rph
sti-cert show leaf.pem >said
grep -q 'TNAuthList   number 12155550150$' said || fail 'no number in the certificate'
grep -q 'claims       attest is A; must exclude rph$' said || fail 'no claim constraints in it'
openssl verify -x509_strict -CAfile root.pem -untrusted intermediate.pem -untrusted delegate.pem \
    leaf.pem >said 2>&1 || fail 'openssl refuses the chain of the delegate'
cat leaf.pem delegate.pem intermediate.pem >chain.pem
sti-cert verify --anchors root.pem chain.pem >said 2>&1 || fail 'we refuse the chain'

DELEGATE='--profile delegate-end-entity --issuer delegate.pem --common-name X'
# shellcheck disable=SC2086
{
    refuse 1 'another TNAuthList' delegate $DELEGATE --csr leaf.csr --number 12155550151
    refuse 1 'other claim constraints' delegate $DELEGATE --csr leaf.csr --number 12155550150
    refuse 1 'other claim constraints' delegate $DELEGATE --csr leaf.csr --number 12155550150 \
        --permit attest=B --must-exclude rph
    refuse 1 'does not ask for a CA' delegate --profile delegate-ca --csr leaf.csr \
        --issuer delegate.pem --common-name X --number 12155550150
    refuse 1 'asks for a CA' delegate $DELEGATE --csr delegate.csr --number 12155550150
    request bare.csr leaf
    refuse 1 'not encompassed' delegate $DELEGATE --csr bare.csr --spc 5678
    refuse 1 'numbering data' delegate $DELEGATE --csr bare.csr --number 12155550200
    issue ported.pem delegate $DELEGATE --csr bare.csr --number 12155550200 --numbers-under-spc
    refuse 1 'pathLenConstraint allows no CA' delegate --profile delegate-ca --csr delegate.csr \
        --issuer delegate.pem --common-name X --spc 1234 --range 12155550100:100 --days 90
    refuse 1 "not a delegate CA's" intermediate --profile delegate-end-entity --csr bare.csr \
        --issuer intermediate.pem --common-name X --spc 1234
    refuse 2 'must have a TNAuthList' delegate $DELEGATE --csr bare.csr
    refuse 2 'START:COUNT' delegate $DELEGATE --csr bare.csr --range 12155550100
    refuse 2 'START:COUNT' delegate $DELEGATE --csr bare.csr --range 12155550100:-1
    refuse 2 'count is not a number' delegate $DELEGATE --csr bare.csr --range 12155550100:1x
    refuse 2 'counts 2 numbers' delegate $DELEGATE --csr bare.csr --range 12155550100:1
    refuse 2 'only 0-9' delegate $DELEGATE --csr bare.csr --number +12155550100
    refuse 2 'CLAIM=VALUE' delegate $DELEGATE --csr bare.csr --spc 1234 --permit attest
    refuse 2 'must not name "iat"' delegate $DELEGATE --csr bare.csr --spc 1234 --must-exclude iat
}

# numbers, by value and by reference
sti-cert tnauthlist --number 12155550100 --range 12155550200:10 --out numbers.der
openssl asn1parse -inform DER -in numbers.der >said
grep -q 'IA5STRING *:12155550200' said || fail 'numbers.der'
TN='--profile tn-end-entity --csr bare.csr --issuer intermediate.pem --common-name School'
# shellcheck disable=SC2086
{
    issue numbers.pem intermediate $TN --tnauthlist numbers.der --policy 2.16.840.1.114569.1.1.3 \
        $CRL --must-include rcd
    issue reference.pem intermediate $TN --tnauthlist numbers.der \
        --tnauthlist-url https://sti-ca.example/numbers/1
    refuse 2 'HTTPS' intermediate $TN --tnauthlist numbers.der --tnauthlist-url http://a.example/
    refuse 2 'instead of' intermediate $TN --tnauthlist numbers.der --number 911
    refuse 2 'must not have claim constraints' intermediate --profile sti-end-entity --spc 1234 \
        --csr bare.csr --issuer intermediate.pem $CRL --must-include rcd
}
shows numbers.pem 'Policy: 2.16.840.1.114569.1.1.3' 'URI:https://sti-pa.example/crl' \
    '1.3.6.1.5.5.7.1.27'
shows reference.pem '1.3.6.1.5.5.7.48.14 - URI:https://sti-ca.example/numbers/1'
! grep -qF '1.3.6.1.5.5.7.1.26' said || fail 'a list beside its URL'
sti-cert show reference.pem >said
grep -q 'TNAuthList at https://sti-ca.example/numbers/1$' said || fail 'no URL is shown'
grep -q 'looks like   STI end entity' said || fail 'it looks like something else'
code=0
sti-cert tnauthlist >said 2>&1 || code=$?
[ "$code" -eq 2 ] || fail 'an empty TNAuthList was written'

# validity
NOW=$(date -u +%s)
LATER=$(date -u -d "@$((NOW + 86400))" +%Y-%m-%dT%H:%M:%SZ)
# shellcheck disable=SC2086
{
    issue later.pem intermediate $TN --number 911 --not-before "$LATER" --days 1
    issue until.pem intermediate $TN --number 911 --backdate 0 --not-after "$LATER"
    refuse 2 'either --days' intermediate $TN --number 911 --days 1 --not-after "$LATER"
    refuse 2 'either --backdate' intermediate $TN --number 911 --backdate 1 --not-before "$LATER"
    refuse 2 '--backdate: not a number from 0' intermediate $TN --number 911 --backdate -1
    refuse 2 '--not-after: not a time' intermediate $TN --number 911 --not-after tomorrow
    refuse 2 'notBefore must come before' intermediate $TN --number 911 --not-after \
        2020-01-01T00:00:00Z
    refuse 2 '--path-length: not a number' intermediate $TN --number 911 --path-length 17
    refuse 2 'no CA' intermediate $TN --number 911 --path-length 0
}
# seconds FILE startdate|enddate
seconds() {
    date -u -d "$(openssl x509 -in "$1" -noout "-$2" | cut -d= -f2)" +%s
}
[ "$(seconds later.pem startdate)" -eq $((NOW + 86400)) ] || fail 'not before'
[ "$(seconds later.pem enddate)" -eq $((NOW + 2 * 86400 - 1)) ] || fail 'days from not before'
[ "$(seconds until.pem enddate)" -eq $((NOW + 86400)) ] || fail 'not after'
[ "$(seconds until.pem startdate)" -ge "$NOW" ] || fail 'backdated, but was told not to'
[ "$(seconds numbers.pem startdate)" -le "$(($(seconds until.pem startdate) - 250))" ] ||
    fail 'not backdated'

# a cross certificate takes everything from the other root
refuse 2 '--subject-cert and --issuer are needed' root --profile sti-cross --issuer root.pem
refuse 2 'is for sti-cross' root --profile sti-root --common-name 'X SHAKEN ROOT' \
    --subject-cert root.pem
echo "sti-cert issue: $tests expectations hold"
