#!/usr/bin/env bash
# The quickstart, and the checks that an auditor and an independent verifier would make afterwards.
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d /tmp/sti-quickstart.XXXXXX)
dir=$work/one

cleanup() {
    status=$?
    if [ $status -ne 0 ]; then
        for log in "$dir"/log/*.log; do
            echo "--- $log" && tail -n 30 "$log"
        done
    fi
    for d in "$work"/*/; do "$source/scripts/quickstart" --dir "$d" --stop >/dev/null || true; done
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
fail() { echo "FAILED: $*" && exit 1; }
quickstart() { "$source/scripts/quickstart" --bin "$bin" "$@"; }

# --- README.md lists exactly the commands of --help
for program in sti-hsm sti-cert sti-pa sti-ca sti-kms sti-sks; do
    "$bin/$program" --help | grep -E '^  [a-z]' |
        sed -E 's/^  //; s/(  | *(--|[([<]|[A-Z])).*//' | sort -u >"$work/told"
    # shellcheck disable=SC2016 # the backquotes are README.md's
    grep "^| .$program. |" "$source/README.md" | cut -d'|' -f4 | grep -oE '`[^`]+`' | tr -d '`' | sort >"$work/named"
    cmp -s "$work/told" "$work/named" || fail "README.md, $program: $(diff "$work/named" "$work/told")"
done

# --- from nothing to a verified call; a second run continues
quickstart --dir "$dir" >"$work/first"
grep -q 'TN-Validation-Passed' "$work/first" || fail "no passed validation"
pid=$(cat "$dir/run/sti-ca.pid")
chain_before=$(find "$dir/sp" -name '*.pem' -exec sha256sum {} + | sort)
quickstart --dir "$dir" >"$work/second"
[ "$pid" = "$(cat "$dir/run/sti-ca.pid")" ] || fail "the second run restarted a daemon"
[ "$chain_before" = "$(find "$dir/sp" -name '*.pem' -exec sha256sum {} + | sort)" ] ||
    fail "the second run changed a certificate"

# --- the commands that it prints work
bash -euo pipefail -c "$(sed -n '/^Try it/,/stir\/v1\/signing$/p' "$work/first" | tail -n +2)" |
    jq -e .signingResponse.identity >/dev/null || fail "the curl lines that it prints do not sign"

# --- DIR/env has every variable, and the files named there exist
# shellcheck source=/dev/null
. "$dir/env"
export SOFTHSM2_CONF
for key in STI_PA_URL STI_CA_DIRECTORY STI_SKS_URL STI_CR_URL STI_TLS_CA STI_TRUST_ANCHORS \
    STI_PA_ANCHOR STI_PA_ACCOUNT STI_PA_USER STI_PA_PASSWORD_FILE STI_SPC STI_SPC2 STI_MODULE \
    STI_SP_TOKEN_URI STI_CA_TOKEN_URI STI_PA_TOKEN_URI STI_PIN_FILE SOFTHSM2_CONF \
    STI_CLIENT_CERT STI_CLIENT_KEY_URI STI_SKS_SOCKET STI_SKS_TOKEN_FILE; do
    [ -n "${!key-}" ] || fail "$key is not in env"
done
for file in "$STI_TLS_CA" "$STI_TRUST_ANCHORS" "$STI_PA_ANCHOR" "$STI_PA_PASSWORD_FILE" \
    "$STI_PIN_FILE" "$STI_CLIENT_CERT" "$STI_SKS_SOCKET" "$STI_SKS_TOKEN_FILE"; do
    [ -e "$file" ] || fail "$file is not there"
done

# --- the tokens contain only private keys that cannot be extracted, and no file contains a private
# key
pin=$(cat "$STI_PIN_FILE")
for token in sti-pa sti-ca sti-sp; do
    objects=$(PIN=$pin pkcs11-tool --module "$STI_MODULE" --token-label "$token" -O -l --pin env:PIN 2>&1)
    keys=$(grep -c '^Private Key Object' <<<"$objects")
    access=$(grep -A8 '^Private Key Object' <<<"$objects" |
        grep -c 'Access:.*sensitive, always sensitive, never extractable, local' || true)
    [ "$keys" -ge 3 ] || fail "$token: $keys private keys"
    [ "$keys" = "$access" ] || fail "$token: $access of $keys keys cannot leave"
done
if grep -rlaE -e '-----BEGIN ([A-Z]+ )*PRIVATE KEY' "$dir"; then fail "a private key in a file"; fi
# PKCS#8 and SEC 1 private keys on P-256 as DER
while IFS= read -r -d '' file; do
    hex=$(od -An -v -tx1 "$file" | tr -d ' \n')
    case "$hex" in
    *308187020100301306072a8648ce3d0201* | *30770201010420* | *3041020100301306072a8648ce3d0201*)
        fail "$file holds a private key in DER" ;;
    esac
done < <(find "$dir" -type f -size -1024k ! -path "$dir/tokens/*" -print0)

# --- a PIN, a password and the bearer token are only in their own files
find "$dir" -type f ! -path "$dir/tokens/*" >"$work/files"
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >"$work/processes" 2>/dev/null || true
for file in "$dir/pin" "$dir/so-pin" "$dir/1001.password" "$dir/1002.password" "$dir/ca-account.password" \
    "$STI_SKS_TOKEN_FILE"; do
    [ "$(stat -c %a "$file")" = 600 ] || fail "$file: mode $(stat -c %a "$file")"
    head -n 1 "$file" | tr -d '\n' >"$work/secret"
    [ -s "$work/secret" ] || fail "$file is empty"
    while IFS= read -r other; do
        [ "$other" = "$file" ] || ! grep -qaF -f "$work/secret" "$other" || fail "what is in $file is in $other too"
    done <"$work/files"
    if grep -qaF -f "$work/secret" "$work/processes"; then fail "what is in $file is in a process's arguments"; fi
done

# --- the chain served by the STI-CR, judged by openssl
token=$(cat "$STI_SKS_TOKEN_FILE")
curl_api() { # PATH JSON [CURL OPTION ...]
    local path=$1 body=$2
    shift 2
    curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -H 'Content-Type: application/json' \
        -d "$body" "$@" "$STI_SKS_URL$path"
}
request() { # ATTEST
    jq -nc --argjson now "$(date +%s)" --arg attest "$1" '{signingRequest: {attest: $attest,
        dest: {tn: ["12155551213"]}, iat: $now, orig: {tn: "12155551212"},
        origid: "de305d54-75b4-431b-adb2-eb6b9e546014"}}'
}
identity=$(curl_api /stir/v1/signing "$(request B)" -H "Authorization: Bearer $token" |
    jq -er .signingResponse.identity)
x5u=${identity#*;info=<}
x5u=${x5u%%>*}
case "$x5u" in "$STI_CR_URL"/*.pem) ;; *) fail "x5u $x5u" ;; esac
curl -sS --noproxy '*' --cacert "$STI_TLS_CA" -D "$work/headers" -o "$work/chain.pem" "$x5u"
grep -qi '^content-type: application/pem-certificate-chain' "$work/headers" || fail "media type"
grep -qi '^cache-control:.*public' "$work/headers" || fail "Cache-Control"
csplit -s -z -f "$work/cert" "$work/chain.pem" '/-----BEGIN/' '{*}'
openssl verify -CAfile "$STI_TRUST_ANCHORS" -untrusted "$work/cert01" "$work/cert00" >"$work/verify" ||
    fail "openssl verify: $(cat "$work/verify")"
openssl x509 -in "$work/cert00" -outform DER | od -An -v -tx1 | tr -d ' \n' |
    grep -q 06082b0601050507011a040a3008a006160431323334 || fail "the TNAuthList is not that of SPC 1234"

# --- an independent program fetches the chain, checks time, path and CRL, and accepts the header
echo "$identity" >"$work/identity"
curl -sS --noproxy '*' --cacert "$STI_TLS_CA" "$STI_PA_URL/download/v1/crl" |
    openssl crl -inform DER -out "$work/crl.pem"
SSL_CERT_FILE=$STI_TLS_CA secsipidx -check -fidentity "$work/identity" -fpubkey "$x5u" \
    -ca-file "$STI_TRUST_ANCHORS" -ca-inter "$work/cert01" -crl-file "$work/crl.pem" \
    -cert-verify 29 -expire 300 >"$work/secsipidx" || fail "secsipidx: $(cat "$work/secsipidx")"

# --- a client certificate whose key is in the token is accepted by the signing API as well
export PKCS11_MODULE_PATH=$STI_MODULE
curl_api /stir/v1/signing "$(request A)" --engine pkcs11 --key-type ENG --cert "$STI_CLIENT_CERT" \
    --key "$STI_CLIENT_KEY_URI?pin-source=file:$STI_PIN_FILE" |
    jq -e .signingResponse.identity >/dev/null || fail "the client certificate does not open the API"

# --- no signature without authentication; a refusal is never a success
code() { curl_api "$@" -o "$work/answer" -w '%{http_code}'; }
[ "$(code /stir/v1/signing "$(request A)")" = 401 ] || fail "signed without credentials"
[ "$(code /stir/v1/signing "$(request A)" -H 'Authorization: Bearer wrong')" = 401 ] || fail "wrong bearer"
[ "$(code /stir/v1/signing "$(request X)" -H "Authorization: Bearer $token")" = 400 ] || fail "attest X"
grep -q identity "$work/answer" && fail "a refusal with an identity"
curl -sS --noproxy '*' --max-time 10 "http://127.0.0.1:${STI_SKS_URL##*:}/healthz" -o "$work/answer" 2>/dev/null &&
    fail "plain HTTP was answered on the TLS port"

# --- verdicts: modified header, other numbers
verdict() { # IDENTITY FROM
    curl_api /stir/v1/verification "$(jq -nc --argjson now "$(date +%s)" --arg i "$1" --arg f "$2" \
        '{verificationRequest: {from: {tn: $f}, to: {tn: ["12155551213"]}, time: $now, identity: $i}}')" \
        -H "Authorization: Bearer $token" | jq -er .verificationResponse.verstat
}
[ "$(verdict "$identity" 12155551212)" = TN-Validation-Passed ] || fail "good header refused"
[ "$(verdict "$identity" 12155559999)" = No-TN-Validation ] || fail "other caller accepted"
signature=$(cut -d';' -f1 <<<"$identity" | cut -d. -f3)
tampered=${identity/$signature/${signature:1:40}${signature:0:1}${signature:41}}
[ "$(verdict "$tampered" 12155551212)" = TN-Validation-Failed ] || fail "tampered signature accepted"

# --- without the token there is an error, never an unsigned success; TLS needs its key as well
mv "$dir/tokens" "$dir/tokens.away"
answer=$(curl -sS --noproxy '*' --max-time 20 --unix-socket "$STI_SKS_SOCKET" \
    -H 'Content-Type: application/json' -d "$(request A)" -o "$work/answer" -w '%{http_code}' \
    http://localhost/stir/v1/signing)
mv "$dir/tokens.away" "$dir/tokens"
case "$answer" in
200) jq -e '.signingResponse.identity | length > 100' "$work/answer" >/dev/null || fail "unsigned success" ;;
500 | 503) ;;
*) fail "token away: HTTP $answer" ;;
esac
echo "token away: HTTP $answer"

# --- two runs in one directory; a run continues after a kill at any point
exec {held}>"$dir/run/lock"
flock "$held"
quickstart --dir "$dir" --check >"$work/refused" 2>&1 && fail "two quickstarts at once in one directory"
grep -q 'another quickstart is at work' "$work/refused" || fail "two at once: $(cat "$work/refused")"
kill -0 "$pid" || fail "the one that was refused stopped the daemons"
exec {held}>&-
[ "$("$bin/sti-kms" status --config "$dir/sp/sp.conf" --json | jq '.credentials | length')" = 1 ] ||
    fail "the second run enrolled again"
mkdir "$work/bin" "$work/done"
for program in sti-hsm sti-cert sti-pa sti-ca sti-kms sti-sks; do
    cat >"$work/bin/$program" <<PROGRAM
#!/bin/sh
# Run the command; after its first run, kill the calling process.
[ "\$1" != serve ] || exec "$bin/$program" "\$@"
"$bin/$program" "\$@" || exit
case "\$1 \$2" in init* | enroll* | *\ init | *\ add | *\ set)
    mark=$work/done/\$(echo "$program \$*" | sha256sum | cut -d' ' -f1)
    [ -e "\$mark" ] || { touch "\$mark" && kill -9 \$PPID; } ;;
esac
PROGRAM
    chmod +x "$work/bin/$program"
done
for runs in {1..40}; do
    "$source/scripts/quickstart" --bin "$work/bin" --dir "$work/killed" >"$work/killed.out" 2>&1 && break
done 2>/dev/null # for bash's messages about killed processes
grep -q 'TN-Validation-Passed' "$work/killed.out" || fail "killed, it does not go on: $(tail -n 5 "$work/killed.out")"
[ "$runs" -ge 12 ] || fail "it was killed only $runs times"
[ "$("$bin/sti-kms" status --config "$work/killed/sp/sp.conf" --json | jq '.credentials | length')" = 1 ] ||
    fail "killed after the enrollment, it enrolled again"
"$source/scripts/quickstart" --dir "$work/killed" --stop >/dev/null

mkdir -p "$work/half/tokens"
cp "$dir/pin" "$dir/so-pin" "$work/half"
sed "s|$dir|$work/half|" "$dir/softhsm2.conf" >"$work/half/softhsm2.conf"
SO=$(cat "$dir/so-pin") SOFTHSM2_CONF=$work/half/softhsm2.conf pkcs11-tool --module "$STI_MODULE" \
    --init-token --label sti-pa --so-pin env:SO >/dev/null 2>&1 || fail "pkcs11-tool --init-token"
quickstart --dir "$work/half" >"$work/refused" 2>&1 && fail "a token without a PIN was taken"
grep -q 'token sti-pa does not take the PIN' "$work/refused" || fail "half a token: $(cat "$work/refused")"

# --- the command line, --stop, and --check during a run
"$bin/sti-sks" sign --config "$dir/sp/sp.conf" --orig 12155551212 --dest 12155551213 --attest A \
    >"$work/by-hand" 2>"$work/err" || fail "sti-sks sign: $(cat "$work/err")"
"$bin/sti-sks" verify --config "$dir/sp/sp.conf" --identity "$work/by-hand" \
    --from 12155551212 --to 12155551213 >/dev/null 2>"$work/err" || fail "sti-sks verify: $(cat "$work/err")"
# --- the journals: the uses of each key by all programs
uses() { "$bin/sti-hsm" journal show --dir "$1" --json | jq -r 'select(.outcome == "ok") | .kind' | sort -u | tr '\n' ' '; }
for organization in pa ca sp; do
    "$bin/sti-hsm" journal verify --dir "$dir/$organization/journal" --json >"$work/verified" ||
        fail "journal of $organization: $(cat "$work/verified")"
    tail -n 1 "$work/verified" | jq -e '.unspecified == 0 and .lost == 0 and .faults == 0 and .checkpoints > 0' \
        >/dev/null || fail "journal of $organization: $(tail -n 1 "$work/verified")"
done
for wanted in 'pa ca-list' 'pa certificate' 'pa crl' 'pa spc-token' 'pa tls' 'pa key-generation' \
    'ca certificate' 'ca tls' 'sp acme' 'sp csr' 'sp passport' 'sp tls'; do
    [[ " $(uses "$dir/${wanted% *}/journal") " == *" ${wanted#* } "* ]] ||
        fail "journal of ${wanted% *}: nothing of kind ${wanted#* }"
done
tbs=$(openssl x509 -in "$dir/sp/tls-chain.pem" -outform DER |
    openssl asn1parse -inform DER -strparse 4 -noout -out - | sha256sum | cut -d' ' -f1)
"$bin/sti-hsm" journal show --dir "$dir/sp/journal" --signed-digest "$tbs" | grep ' certificate ' >/dev/null ||
    fail "the certificate of sti-sks is not in the journal by its digest"

quickstart --dir "$work/two" --check >"$work/check" || fail "--check beside a running one: $(tail -n 5 "$work/check")"
kill -0 "$pid" || fail "--check in another directory ended this one's daemon"
"$source/scripts/quickstart" --dir "$dir" --stop >/dev/null
echo 4194303 >"$dir/run/sti-ca.pid" # a process that has ended
[ -z "$("$source/scripts/quickstart" --dir "$dir" --stop 2>&1)" ] || fail "--stop of what is stopped says something"
for name in sti-pa sti-ca sti-sks; do
    if pgrep -f "/$name serve --config $work/" >/dev/null; then fail "$name still runs"; fi
done
echo "from nothing to a verified call, twice"
