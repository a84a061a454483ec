#!/usr/bin/env bash
# test_ceremony.sh - the commands of docs/CEREMONY.md; scripts/ceremony at a pseudo-terminal, where
# this test plays both persons; modified transcripts; refusals.
#
#   test_ceremony.sh SOURCE_DIR BIN_DIR
set -euo pipefail

# shellcheck source=test-hsm/certs/document.sh
. "$1/test-hsm/certs/document.sh"
document_open "$1" "$2"
ln -s "$1/scripts" scripts
export LC_ALL=C
tests=0

fail() {
    printf '%s\n' "$*"
    [ ! -f said ] || tail -n 30 said
    exit 1
}

# refuse STATUS TEXT COMMAND...
refuse() {
    local status=$1 text=$2 code=0
    shift 2
    "$@" >said 2>&1 </dev/null || code=$?
    if [ "$code" -ne "$status" ] || ! grep -qF -- "$text" said; then
        fail "status $code, wanted $status and \"$text\": $*"
    fi
    tests=$((tests + 1))
}

document_run CEREMONY.md 4

# ---- a transcript is accepted unchanged, and refused otherwise

verifies() { scripts/ceremony --verify "$1" --certificate "${2:-rehearsal/root.pem}" >said 2>&1; }
good=rehearsal/transcript
verifies $good || fail 'the transcript itself'
grep -q 'IT IS A REHEARSAL' said || fail 'a rehearsal is not told'
count=$(wc -l <$good)

tampered() { # WHAT; the file is "tampered"
    cmp -s $good tampered && fail "not tampered with: $1"
    ! verifies tampered || fail "not noticed: $1"
    tests=$((tests + 1))
}

# in every line: a digit of its hash, its time or a character of its text
for ((n = 1; n <= count; n++)); do
    case $((n % 3)) in
    0) expression="${n}s/^\(.\{7\}\)./\1x/" ;;
    1) expression="${n}s/:\([0-9]\)\([0-9]\)Z /:\1xZ /" ;;
    2) expression="${n}s/.\(.\)$/~\1/" ;;
    esac
    sed "$expression" $good >tampered
    tampered "line $n, $expression"
done
for ((n = 1; n < count; n += 7)); do
    awk -v n=$n 'NR != n' $good >tampered
    tampered "without line $n"
    awk -v n=$n '{ print } NR == n' $good >tampered
    tampered "line $n twice"
    awk -v n=$n 'NR == n { held = $0; next } { print } NR == n + 1 { print held }' $good >tampered
    tampered "lines $n and $((n + 1)) the other way round"
done
sed 's/$/\r/' $good >tampered && tampered 'CR LF'
head -c -1 $good >tampered && tampered 'without the last line feed'
{ cat $good && echo; } >tampered && tampered 'an empty line at its end'
{ cat $good && tail -n 1 $good; } >tampered && tampered 'signed twice'
{ printf '\0' && cat $good; } >tampered && tampered 'a NUL'
: >tampered && tampered 'nothing'
head -c 2000000 /dev/zero >tampered && tampered 'two million octets'

# the same with a recomputed chain: then the signature reveals it
chain_anew() {
    local line rest hash previous=''
    while IFS= read -r line; do
        rest=${line#* }
        hash=$(printf '%s%s\n' "$previous" "$rest" | sha256sum)
        previous="${hash%% *} $rest"$'\n'
        printf '%s' "$previous"
    done
}
cmp -s $good <(chain_anew <$good) || fail 'this test does not know the chain'
sed '4s/Bob Brown/Eve Evans/' $good | chain_anew >tampered && tampered 'another witness'
grep -q 'the signature is not' said || fail 'not by the signature'
awk 'NR != 6' $good | chain_anew >tampered && tampered 'a line less'
grep -q 'lines are missing' said || fail 'not by their number'
head -n -1 $good >tampered && tampered 'unsigned'
sed '$s/ signature ./ signature X/' $good | chain_anew >tampered && tampered 'another signature'
awk -v n="$count" 'NR == n { print $1, $2, $3, $4 "\n"; next } { print }' $good >tampered
tampered 'a signature with a line feed more'
# base64 has unused bits before a "=": other letters for the same octets
letters=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/
if [[ $(tail -n 1 $good) =~ ([A-Za-z0-9+/])(=+)$ ]]; then
    before=${letters%%"${BASH_REMATCH[1]}"*}
    sed "\$s|.${BASH_REMATCH[2]}\$|${letters:${#before}+1:1}${BASH_REMATCH[2]}|" $good |
        chain_anew >tampered
    cmp -s <(tail -n 1 $good | cut -d' ' -f4 | base64 -d) \
        <(tail -n 1 tampered | cut -d' ' -f4 | base64 -d) || fail 'not the same signature'
    tampered 'the same signature in other letters'
fi

# another root's certificate
issue_other() {
    printf '2468\n' >pin
    sti-hsm token init --label other --pin-source file:pin --so-pin-source file:pin
    sti-hsm key generate --token pkcs11:token=other --label root --pin-source file:pin
    sti-hsm key generate --token pkcs11:token=other --label issuing --pin-source file:pin
    sti-cert issue --profile sti-root --key 'pkcs11:token=other;object=root' \
        --pin-source file:pin --country US --organization 'Example STI-CA' \
        --common-name 'REHEARSAL Example SHAKEN ROOT' --out other.pem
    sti-cert csr --key 'pkcs11:token=other;object=issuing' --pin-source file:pin --ca \
        --out issuing.csr
    sti-cert issue --profile pa-root --key 'pkcs11:token=other;object=root' --pin-source file:pin \
        --country US --organization STI-PA --common-name 'STI-PA CRL' --out pa-crl.pem
}
(umask 077 && issue_other) >said 2>&1 || fail 'another root'
! verifies $good other.pem || fail 'another certificate is taken'
grep -q 'about another certificate' said || fail 'another certificate'
! verifies $good issuing.csr || fail 'a request is taken for a certificate'
refuse 2 '--certificate is needed' scripts/ceremony --verify $good
refuse 1 'cannot be read' scripts/ceremony --verify absent --certificate rehearsal/root.pem

# ---- refusals of a rehearsal

names=(--country US --organization 'Example STI-CA' --common-name 'Example SHAKEN ROOT')
persons=(--operator 'Alice Adams' --witness 'Bob Brown')
number=0
rehearse() { # ANSWER..., then "--" and options
    printf '' >answers
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        printf '%s\n' "$1" >>answers
        shift
    done
    [ $# -eq 0 ] || shift
    scripts/ceremony --rehearse --answers answers --out "r$number" "${persons[@]}" "${names[@]}" "$@"
}
# aborted TEXT ANSWER...: it aborts for that reason, and its transcript records this and is not
# signed
aborted() {
    number=$((number + 1))
    refuse 1 "$1" rehearse "${@:2}"
    grep -q " aborted .*$1" "r$number/transcript" || fail "the transcript does not say: $1"
    ! grep -q ' signature ' "r$number/transcript" || fail "signed: $1"
    [ ! -e "r$number/root.pem" ] || [ "$1" != 'key: not confirmed by Bob Brown' ] ||
        fail 'a root without a confirmation'
    ! verifies "r$number/transcript" || fail "an aborted ceremony verifies: $1"
}
w='only the witness knows'
aborted 'nobody answers'
aborted 'nobody answers' "$w"
aborted 'the two phrases differ' "$w" "$w."
aborted 'less than 8 characters' short short
aborted 'nobody answers' "$w" "$w"
aborted 'opening: not confirmed by Bob Brown' "$w" "$w" no yes y
aborted 'token: stopped by Bob Brown' "$w" "$w" "$w" ''
aborted 'key: not confirmed by Bob Brown' "$w" "$w" "$w" "$w" 'only the witness know' "${w^}" "$w "
aborted 'attributes: stopped by Bob Brown' "$w" "$w" "$w" "$w" "$w" ''
aborted 'root: stopped by Bob Brown' "$w" "$w" "$w" "$w" "$w" "$w" ''
aborted 'was not compared' "$w" "$w" "$w" "$w" "$w" "$w" "$w" 12345678 'as heard' ''
aborted 'closing: stopped by Bob Brown' "$w" "$w" "$w" "$w" "$w" "$w" "$w" 'as read' 'as read' ''
aborted 'no certificate was issued' "$w" "$w" "$w" "$w" "$w" "$w" "$w" -- --days 0

# two wrong phrases are accepted and reported
number=$((number + 1))
rehearse "$w" "$w" wrong-phrase wrong-phrase "$w" "$w" "$w" "$w" "$w" 00000000 'as read' 'as read' \
    "$w" >said 2>&1 || fail 'two wrong phrases'
[ "$(grep -c 'a wrong phrase was refused' "r$number/transcript")" -eq 2 ] || fail 'not told'
grep -q 'a wrong comparison' "r$number/transcript" || fail 'no wrong comparison told'

refuse 1 'is there already' rehearse "$w"
persons=(--operator 'Alice Adams' --witness 'alice  ADAMS')
refuse 2 'must be two persons' rehearse
persons=(--operator 'Alice Adams')
refuse 2 '--witness is needed' rehearse
persons=(--operator 'Alice Adams' --witness $'Bob\nBrown')
refuse 2 'control character' rehearse
persons=(--operator 'Alice Adams' --witness 'Bob Brown')
number=$((number + 1))
refuse 2 'no --token' rehearse -- --token pkcs11:token=other
refuse 2 '--crl-url is needed' rehearse -- --issuing-csr issuing.csr --issuing-common-name X
refuse 2 'goes with --rehearse' scripts/ceremony --answers answers --out held --token \
    pkcs11:token=other --label root-2 "${persons[@]}" "${names[@]}"
refuse 1 'no terminal' setsid -w scripts/ceremony --out held --token pkcs11:token=other \
    --label root-2 "${persons[@]}" "${names[@]}"
refuse 2 'no such option' scripts/ceremony --pin 1234
refuse 2 'not an option' scripts/ceremony 1234
[ ! -e held ] || fail 'refused, but begun'
scripts/ceremony --help | grep -q -- '--rehearse' || fail 'no help'

# ---- a ceremony at a pseudo-terminal, with an issuing CA's request

# The arguments of the programs are recorded: the PIN must not be among them.
right_pin=97531864
printf '%s\n' $right_pin >pin-of-root
chmod 600 pin-of-root
sti-hsm token init --label sti-root --pin-source file:pin-of-root --so-pin-source file:pin >/dev/null
rm pin-of-root
mkdir spies
for program in sti-hsm sti-cert; do
    cat >spies/$program <<END
#!/bin/sh
{ printf '%s\n' "\$0" "\$@"; env; cat /proc/\$PPID/cmdline; cat /proc/\$PPID/environ; } |
    tr '\0' '\n' >>"$PWD/spied"
exec "$2/$program" "\$@"
END
    chmod +x spies/$program
done
cat >hold <<END
#!/bin/sh
exec scripts/ceremony --out "\$1" --bin "$PWD/spies" --token pkcs11:token=sti-root --label root-2026 \
    --operator 'Alice Adams' --witness 'Bob Brown' --country US --organization 'Example STI-CA' \
    --common-name 'Example SHAKEN ROOT' --issuing-csr issuing.csr \
    --issuing-common-name 'Example SHAKEN Intermediate' \
    --crl-url https://sti-pa.example/download/v1/crl --crl-issuer pa-crl.pem
END
chmod +x hold

# Reads the terminal up to the next question, a line that ends in ": " without a line feed, and
# answers it; the hash to be read aloud is in the line before.
hold_it() {
    local seen='' line='' octet hash=''
    while IFS= read -r -t 60 -N 1 octet <&"$from"; do
        printf '%s' "$octet" >>said
        if [ "$octet" = $'\n' ]; then
            if [[ $line =~ ^\ +(([0-9a-f]{8}\ ){8}) ]]; then
                hash=${BASH_REMATCH[1]// /}
            fi
            line=''
            continue
        fi
        [ "$octet" = $'\r' ] || line+=$octet
        case "$line" in
        *'PIN of the token'*': ') printf '%s\n' "$pin" >&"$to" ;;
        *'types the last 8 digits as heard: ') printf '%s\n' "${hash: -8}" >&"$to" ;;
        *'phrase of Bob Brown: ' | *'the same again: ' | *'Bob Brown confirms ('*'): ')
            printf '%s\n' "$w" >&"$to"
            ;;
        *) continue ;;
        esac
        seen+="$line|"
        line=''
    done
    printf '%s\n' "$seen" | tr '|' '\n' >asked
}
# Returns the status of a ceremony in that directory.
at_terminal() { # DIRECTORY
    : >said
    coproc terminal { script -qefc "./hold $1" /dev/null 2>&1; }
    # shellcheck disable=SC2154 # coproc sets it
    local held=$terminal_PID status=0
    # own descriptors: bash closes those of the coproc when it ends
    # shellcheck disable=SC2154
    exec {from}<&"${terminal[0]}" {to}>&"${terminal[1]}"
    hold_it
    wait "$held" || status=$?
    exec {from}<&- {to}>&-
    return $status
}

# a wrong PIN is tried only once
pin=13572468
! at_terminal wrong-pin || fail 'a wrong PIN'
grep -q 'Z aborted no key was generated' wrong-pin/transcript || fail 'not aborted by a wrong PIN'
[ "$(grep -c 'PIN of' asked)" -eq 1 ] || fail 'the wrong PIN was asked for again'
pin=$right_pin

at_terminal held || fail "the ceremony at the terminal ended with $?"
[ "$(grep -c 'confirms' asked)" -eq 7 ] || fail "not seven confirmations: $(cat asked)"
[ "$(grep -c 'PIN of' asked)" -eq 1 ] || fail 'the PIN was not asked for once'
[ "$(grep -c 'as heard' asked)" -eq 4 ] || fail 'not four comparisons'
! grep -qF "$w" said || fail 'the phrase was echoed'
! grep -q "$pin" said || fail 'the PIN was echoed'
grep -q 'key generate' <(tr '\n' ' ' <spied) || fail 'nothing was spied on'
! grep -q "$pin" spied || fail 'the PIN is in arguments or environment'
! grep -rq "$pin\|$w" held || fail 'a secret is in what the ceremony wrote'
scripts/ceremony --verify held/transcript --certificate held/root.pem >said 2>&1 || fail 'held'
! grep -q REHEARSAL said || fail 'called a rehearsal'
openssl verify -x509_strict -CAfile held/root.pem held/issuing.pem >said 2>&1 || fail 'issuing.pem'
sti-cert lint held/root.pem held/issuing.pem >said 2>&1 || fail 'lint'

# required contents of the transcript, which must agree with the token and openssl
has() { grep -q -- "Z $1\$" held/transcript || fail "the transcript does not say: $1"; }
has 'opening rehearsal: no'
has 'opening operator: Alice Adams'
has 'opening witness: Bob Brown'
has "token serial: $(sti-hsm token show pkcs11:token=sti-root | sed -n 's/^serial  *//p')"
has 'token firmware: .*'
has 'token module version: .*'
has 'attributes sensitive: yes'
has 'attributes always sensitive: yes'
has 'attributes extractable: no'
has 'attributes never extractable: yes'
has 'attributes local: yes'
has 'attributes generated by: 0x1040 (CKM_EC_KEY_PAIR_GEN)'
for certificate in root issuing; do
    file=held/$certificate.pem
    has "$certificate certificate SHA-256: $(openssl x509 -in $file -outform DER | sha256sum |
        cut -d' ' -f1)"
    has "$certificate SPKI SHA-256: $(openssl x509 -in $file -noout -pubkey |
        openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)"
done
has "issuing request SHA-256: $(sha256sum <issuing.csr | cut -d' ' -f1)"
has 'opening module: .*'
[ "$(grep -c 'Z [a-z]* confirmed by Bob Brown: ' held/transcript)" -eq 7 ] || fail 'confirmations'
document_has_no_key
echo "scripts/ceremony: $blocks blocks and $tests expectations hold"
