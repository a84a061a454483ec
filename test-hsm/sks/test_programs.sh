#!/bin/sh
# test_programs.sh BIN DATA - sti-kms and sti-sks on the command line, without an STI-PA or STI-CA:
# the files they create, what they refuse, and what they never print.
set -u

bin=$1
data=$2
module=${STI_TEST_MODULE:-/usr/lib/softhsm/libsofthsm2.so}
pin=975318642
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

[ -r "$module" ] || { echo "skipped: no $module"; exit 77; }
mkdir "$dir/tokens"
cat >"$dir/softhsm2.conf" <<END
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
END
export SOFTHSM2_CONF="$dir/softhsm2.conf"
umask 077
echo "$pin" >"$dir/pin"
echo 864297531 >"$dir/so-pin"
echo 111111 >"$dir/wrong-pin"
echo 'account-password-7' >"$dir/password"

fail() {
    failures=$((failures + 1))
    echo "FAIL: $*"
    sed 's/^/    /' "$dir/out" "$dir/err"
}

# run WANTED-STATUS PROGRAM ARGUMENT...: keeps its output in out and err, and all output in all.
run() {
    wanted=$1
    program=$2
    shift 2
    timeout 60 "$bin/$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
    status=$?
    cat "$dir/out" "$dir/err" >>"$dir/all"
    [ "$status" -eq "$wanted" ] || fail "$program $*: exit status $status, not $wanted"
}

# said WORD...: the last run wrote this to standard output; told: to standard error.
said() { grep -q -- "$*" "$dir/out" || fail "not said: $*"; }
told() { grep -q -- "$*" "$dir/err" || fail "not told: $*"; }
quiet() { [ ! -s "$dir/out" ] || fail "something on standard output"; }

# ---- help and wrong usage
for command in "" init enroll status abandon; do
    # shellcheck disable=SC2086 # words
    run 0 sti-kms $command --help
    said "^usage: sti-kms"
    said "--help"
done
run 0 sti-kms --help
said "private-addresses"
run 0 sti-kms init --help
said "--private-addresses"
for command in "" serve sign verify; do
    # shellcheck disable=SC2086
    run 0 sti-sks $command --help
    said "^usage: sti-sks"
done
run 0 sti-kms --version
said "^sti-kms [0-9]"
for words in "" "nonsense" "enroll" "status" "abandon --config x" "enroll --nonsense" "init --dir $dir/x"; do
    # shellcheck disable=SC2086
    run 2 sti-kms $words
    quiet
done
for words in "" "nonsense" "serve" "sign --config x" "verify --config x --from 1 --to 2" \
    "sign --config x --orig alice --dest 12155551213 --attest A" \
    "sign --config x --orig 12155551212 --dest bob --attest A" \
    "sign --config x --orig 12155551212 --dest 12155551213 --attest AB" \
    "sign --config x --orig 12155551212 --dest 12155551213 --attest A --iat soon" \
    "verify --config x --identity - --from 12155551212 --to 12155551213 --time soon" \
    "serve --config x --orig 1"; do
    # shellcheck disable=SC2086
    run 2 sti-sks $words
    quiet
done
for words in "status --pin-value=$pin" "status --config x -p$pin" "status --json=$pin" \
    "init --pa=$pin" "init --pin=$pin"; do
    # shellcheck disable=SC2086
    run 2 sti-kms $words
    quiet
done
run 2 sti-kms status --pin-value="$pin"
told "^sti-kms: status: unrecognized option --pin-value"
run 2 sti-kms status --json="$pin"
told "^sti-kms: --json takes no value"
run 2 sti-kms status --config
told "^sti-kms: --config: FILE is needed"
run 1 sti-kms status --config "$dir/nowhere.conf"
told nowhere.conf

# ---- init
run 0 sti-hsm token init --module "$module" --label sp --pin-source "file:$dir/pin" \
    --so-pin-source "file:$dir/so-pin"
init() { # WANTED-STATUS [ARGUMENT...]
    wanted=$1
    shift
    run "$wanted" sti-kms init --dir "$dir/sp" --module "$module" --token pkcs11:token=sp \
        --pin-source "file:$dir/pin" --organization "Example Telecom" --spc 1234 \
        --api-address 127.0.0.1:0 --cr-address 127.0.0.1:0 --cr-url https://127.0.0.1:9443 \
        --pa-url https://127.0.0.1:9 --pa-account 1001 --pa-user sp \
        --pa-password-source "file:$dir/password" --pa-anchor "$data/self/pa-root.cert.pem" \
        --ca-directory https://127.0.0.1:9/acme/directory --tls-ca "$data/self/pa-root.cert.pem" "$@"
}
init 0
said "bearer token"
conf=$dir/sp/sp.conf
for file in sp.conf tls-root.pem tls-chain.pem tls-client-chain.pem tls-ca.pem pa-anchors.pem bearer; do
    [ -s "$dir/sp/$file" ] || fail "no $file"
done
[ "$(stat -c %a "$dir/sp/bearer")" = 600 ] || fail "others may read the bearer token"
grep -q '^ports = 9443$' "$conf" || fail "the port of the local STI-CR is not allowed"
grep -q '^private-addresses = yes$' "$conf" || fail "the local STI-CR is not allowed"
[ "$(grep -c BEGIN "$dir/sp/tls-ca.pem")" = 2 ] || fail "the peers' anchors and the own one"
openssl verify -CAfile "$dir/sp/tls-root.pem" -purpose sslclient "$dir/sp/tls-client-chain.pem" \
    >"$dir/out" 2>&1 || fail "client certificate"
openssl verify -CAfile "$dir/sp/tls-root.pem" -purpose sslserver -verify_ip 127.0.0.1 \
    "$dir/sp/tls-chain.pem" >"$dir/out" 2>&1 || fail "server certificate"

before=$(sha256sum "$dir/sp"/*.pem "$dir/sp/bearer" "$conf")
init 0 --country US
said "kept as it was"
[ "$before" = "$(sha256sum "$dir/sp"/*.pem "$dir/sp/bearer" "$conf")" ] || fail "init changed what was there"
run 0 sti-hsm key list --module "$module" --token pkcs11:token=sp --pin-source "file:$dir/pin"
for label in acme-account tls-root tls-server tls-client; do
    said "$label"
done
[ "$(grep -c 'tls-\|acme-' "$dir/out")" = 4 ] || fail "keys were made twice"
if grep -rlaE -e 'PRIVATE KEY' "$dir/sp"; then fail "a private key in a file"; fi

# a public repository does not imply permission for private addresses
rm -rf "$dir/sp2"
run 0 sti-kms init --dir "$dir/sp2" --module "$module" --token pkcs11:token=sp \
    --pin-source "file:$dir/pin" --organization "Example Telecom" --spc 1234 \
    --api-address 127.0.0.1:0 --cr-address 127.0.0.1:0 --cr-url https://cr.sp.example \
    --pa-url https://pa.example --pa-account 1001 --pa-user sp \
    --pa-password-source "file:$dir/password" --pa-anchor "$data/self/pa-root.cert.pem" \
    --ca-directory https://ca.example/acme/directory
grep -q '^private-addresses = no$' "$dir/sp2/sp.conf" || fail "private addresses without need"
if grep -q '^ports\|^ca = ' "$dir/sp2/sp.conf"; then fail "keys that were not asked for"; fi

# the host of the repository's URL decides whether it is on the loopback
at_cr() { # URL private-addresses ports
    rm -rf "$dir/sp4"
    run 0 sti-kms init --dir "$dir/sp4" --module "$module" --token pkcs11:token=sp \
        --pin-source "file:$dir/pin" --organization "Example Telecom" --spc 1234 \
        --api-address 127.0.0.1:0 --cr-address 127.0.0.1:0 --cr-url "$1" \
        --pa-url https://pa.example --pa-account 1001 --pa-user sp \
        --pa-password-source "file:$dir/password" --pa-anchor "$data/self/pa-root.cert.pem" \
        --ca-directory https://ca.example/acme/directory
    grep -q "^private-addresses = $2$" "$dir/sp4/sp.conf" || fail "$1: private addresses, not $2"
    ports=$(sed -n 's/^ports = //p' "$dir/sp4/sp.conf")
    [ "$ports" = "$3" ] || fail "$1: ports \"$ports\", not \"$3\""
}
at_cr 'https://[::1]' yes ''
at_cr 'https://[::1]/certs' yes ''
at_cr 'https://[::1]:9443/certs' yes 9443
at_cr 'https://[0:0:0:0:0:0:0:1]:8443' yes ''
at_cr https://localhost/certs yes ''
at_cr https://127.0.0.2:9443 yes 9443
at_cr 'https://[2001:db8::1]/certs' no ''
at_cr 'https://[2001:db8::1]:9443' no ''
at_cr https://127.example/certs no ''

# an account at the STI-PA has either a user with a password or an API key
at_pa() { # WANTED-STATUS [ARGUMENT...]
    wanted=$1
    shift
    run "$wanted" sti-kms init --dir "$dir/sp3" --module "$module" --token pkcs11:token=sp \
        --pin-source "file:$dir/pin" --organization "Example Telecom" --spc 1234 \
        --api-address 127.0.0.1:0 --cr-address 127.0.0.1:0 --cr-url https://cr.sp.example \
        --pa-url https://pa.example --pa-account 1001 --pa-anchor "$data/self/pa-root.cert.pem" \
        --ca-directory https://ca.example/acme/directory "$@"
}
at_pa 2
at_pa 2 --pa-user sp
at_pa 2 --pa-user sp --pa-password-source "file:$dir/password" --pa-api-key-source "file:$dir/password"
told 'pa-api-key-source alone'
at_pa 0 --pa-api-key-source "file:$dir/password"
grep -q "^api-key-source = file:$dir/password$" "$dir/sp3/sp.conf" || fail "no API key"
if grep -q '^user\|^password-source' "$dir/sp3/sp.conf"; then fail "a user beside an API key"; fi

# ---- init refuses
cp -r "$dir/sp" "$dir/kept"
rm "$conf"
init 1 --pin-source "file:$dir/wrong-pin"
told PIN
init 1 --token pkcs11:token=nowhere
init 2 --spc '1234 ; x'
told spc
init 1 --pa-anchor "$dir/nowhere.pem"
init 2 --cr-url http://127.0.0.1:9443
[ ! -e "$conf" ] || fail "a configuration after a refusal"
rm -rf "$dir/sp" && mv "$dir/kept" "$dir/sp"

# ---- status, sign and verify without any credential
run 0 sti-kms status --config "$conf"
said STATE
run 0 sti-kms status --config "$conf" --json
said '"credentials": \[\]'
run 0 sti-kms run --config "$conf" --check
said good
run 1 sti-kms abandon --config "$conf" --id 7
told "not in the catalogue"
run 0 sti-sks serve --config "$conf" --check
said good
run 1 sti-sks sign --config "$conf" --orig 12155551212 --dest 12155551213 --attest A
quiet
told "no active credential"
echo 'a.b.c;info=<https://127.0.0.1:9443/x.pem>' >"$dir/identity"
run 1 sti-sks verify --config "$conf" --identity "$dir/identity" --from 12155551212 --to 12155551213
quiet
told "nothing is judged"
run 1 sti-sks verify --config "$conf" --identity "$dir/nowhere" --from 12155551212 --to 12155551213
told nowhere
head -c 20000 /dev/zero | tr '\0' a >"$dir/long"
run 1 sti-sks verify --config "$conf" --identity "$dir/long" --from 12155551212 --to 12155551213
told "longer than"
run 1 sti-kms enroll --config "$conf" # no server is reachable
quiet

# ---- the configuration is checked, with file and line
broken() { # SED-COMMAND WORD...
    sed "$1" "$conf" >"$dir/sp/broken.conf"
    shift
    run 1 sti-sks serve --config "$dir/sp/broken.conf" --check
    quiet
    told "$*"
}
broken 's/^\[api\]$/[api]\nsocket-mode = 0777/' 'socket-mode: not 0600, 0660 or 0666'
broken 's/^\[api\]$/[api]\nsocket-mode = 0660/' 'socket-mode: other users only with'
broken 's/^\[api\]$/[api]\ncallers = callers.conf/' 'bearer-source: with \[api\] callers'
broken 's/^spc = .*/spcs = 1234/' 'broken.conf:.*spcs: unknown key'
broken 's/^\[cr\]$/[crs]/' 'unknown section'
broken '/^spc = /d' '\[sp\] spc: missing'
broken '/^base-url = /d' 'base-url: missing'
broken 's/^private-addresses = .*/private-addresses = maybe/' 'neither yes nor no'
broken 's/^ports = .*/ports = 443 70000/' 'ports'
broken 's/^ports = .*/ports = 443,8443/' 'ports'
broken 's/^private-addresses = .*/&\nca-keys = p384 p224/' 'ca-keys'
broken 's/^private-addresses = .*/&\nintermediates = nowhere.pem/' 'nowhere.pem'
broken 's/^tkauth-member = .*/tkauth-member = atk/' 'neither tkauth nor atc'
broken 's/^fingerprint = .*/fingerprint = sha1/' 'neither thumbprint nor spki'
broken 's/^anchors = .*/anchors = nowhere.pem/' 'nowhere.pem'
broken 's/^chain = .*/chain = tls-root.pem/' 'not the certificate of'
broken 's#^base-url = .*#base-url = http://127.0.0.1#' 'not an https URL'
broken 's/^\[cr\]$/[numbers]\ncountry-code = 1234\n[cr]/' 'broken.conf:[0-9]*: \[numbers\] country-code: not 1 to 3 digits'
broken 's/^\[cr\]$/[numbers]\ncountry-code = 33\nnational-prefix = 0x\n[cr]/' 'national-prefix: not 1 to 5 digits'
broken '/^bearer-source = /d; /^client-anchors = /d' 'nobody could be authenticated'
broken '/^address = /d; /^socket = /d' 'nothing would be served'
broken 's/^pin-source = .*/pin-source = file:nowhere/' 'nowhere'
sed 's/^\[sp\]$/[token-2]\nuri = pkcs11:token=other\n[sp]/' "$conf" >"$dir/sp/broken.conf"
run 2 sti-sks serve --config "$dir/sp/broken.conf" --check # no module
told 'token pkcs11:token=other: not open: its configuration is wrong'
run 1 sti-kms run --config "$dir/sp/broken.conf" --check
told 'token pkcs11:token=other: the configuration of its token is wrong'
sed '/^password-source = /d' "$conf" >"$dir/sp/broken.conf"
run 1 sti-kms enroll --config "$dir/sp/broken.conf"

# ---- a configuration that may contain a PIN or a password is refused before its text is logged
# untold FILE WORD...: no program accepts it.
untold() {
    file=$1
    shift
    for words in "sti-sks serve --check" "sti-kms run --check" "sti-kms status"; do
        # shellcheck disable=SC2086 # words
        run 1 $words --config "$file"
        quiet
        told "$*"
    done
}
sed "s/^uri = .*/uri = pkcs11:token=b?pin-value=$pin/" "$conf" >"$dir/sp/untold.conf"
untold "$dir/sp/untold.conf" 'untold.conf:[0-9]*: \[token\] uri: has a pin-value'
for section in token-2 token-4; do
    cp "$conf" "$dir/sp/untold.conf"
    printf '[%s]\nuri = pkcs11:token=b?pin-value=%s\n' "$section" "$pin" >>"$dir/sp/untold.conf"
    untold "$dir/sp/untold.conf" "untold.conf:[0-9]*: \\[$section\\] uri: has a pin-value"
done
sed "s/^\\[tls\\]$/&\\nkey = pkcs11:object=tls-server?pin-value=$pin/" "$conf" >"$dir/sp/untold.conf"
untold "$dir/sp/untold.conf" '\[tls\] key: has a pin-value'
sed 's/^spc = 1234$/&\nproviders = providers.conf/' "$conf" >"$dir/sp/untold.conf"
printf '[token a]\nuri = pkcs11:token=b?pin-value=%s\n' "$pin" >"$dir/sp/providers.conf"
untold "$dir/sp/untold.conf" 'providers.conf:2: \[token\] uri: has a pin-value'
printf '[provider a]\nspc = 2345\npa-account = 1\ncr-base-url = https://sp:%s@cr.example\n' \
    account-password-7 >"$dir/sp/providers.conf"
untold "$dir/sp/untold.conf" 'providers.conf:4: \[provider\] cr-base-url: not an https URL'
for key in 'pa url' 'pa ca-list-url' 'pa crl-url' 'ca directory' 'cr base-url' 'cr upload-url'; do
    section=${key% *}
    name=${key#* }
    sed -e "/^\[$section\]/,/^$/{/^$name = /d}" \
        -e "s#^\[$section\]\$#&\n$name = https://sp:account-password-7@x.example#" \
        "$conf" >"$dir/sp/untold.conf"
    untold "$dir/sp/untold.conf" "\[$section\] $name: not an https URL"
done
if grep -rqa -e "pin-value=$pin" -e '@x.example' "$dir/sp/trust" "$dir"/sp/catalogue.db*; then
    fail "a secret is kept"
fi

# ---- callers and customers: a separate file, checked with the configuration
cat >"$dir/sp/callers.conf" <<END
[customer acme]
spc = 1234
attest = A
numbers = any
[caller pbx]
uid = $(id -u)
customers = acme
END
sed -e '/^bearer-source/d' -e 's/^\[api\]$/[api]\ncallers = callers.conf\ntrail = trail.jsonl\nsocket-mode = 0660/' \
    "$conf" >"$dir/sp/hosted.conf"
run 0 sti-sks serve --config "$dir/sp/hosted.conf" --check
said good
[ "$(stat -c %a "$dir/sp/trail.jsonl")" = 600 ] || fail "trail.jsonl is not of mode 600"
sed -i 's/^attest = A$/attest = A D/' "$dir/sp/callers.conf"
run 1 sti-sks serve --config "$dir/sp/hosted.conf" --check
told 'callers.conf:2: \[customer acme\]: attest'

# ---- no secret was printed
for secret in "$pin" account-password-7 "$(cat "$dir/sp/bearer")"; do
    if grep -q -- "$secret" "$dir/all"; then fail "a secret was said"; fi
done

[ "$failures" -eq 0 ] || exit 1
echo "sti-kms and sti-sks do what their help says"
