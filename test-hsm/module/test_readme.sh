#!/bin/sh
# test_readme.sh - run the commands of README.md in order, unchanged.
#
#   test_readme.sh SOURCE_DIR BIN_DIR FAULT_MODULE
set -eu

document=$1/test-hsm/module/README.md
bin=$2
export FAULT_MODULE="$3"

if ! command -v pkcs11-tool >/dev/null; then
    echo "skipped: no pkcs11-tool"
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
unset STI_FAULT_MODULE

awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$document" \
    >"$directory/commands"
blocks=$(grep -c '^```sh$' "$document")
[ "$blocks" -ge 5 ] || {
    echo "README.md: only $blocks blocks of commands"
    exit 1
}
cd "$directory"
# `! command` does not end a script under -e if the command succeeds, so it is rewritten.
sed 's/^! \(.*\)/if \1/' commands | awk '
    /^if / { open = 1 }
    { print }
    open && !/\\$/ { print "then echo \"succeeded, but must fail\"; exit 1; fi"; open = 0 }
' >script.sh
if ! timeout 100 sh -eux ./script.sh; then
    cat said 2>/dev/null
    echo "README.md: a command failed"
    exit 1
fi

fail() {
    echo "$*"
    exit 1
}

# Without a module behind, C_GetFunctionList fails and reports it.
unset STI_FAULT_CONTROL
for behind in '' /absent.so /etc/passwd; do
    if [ -n "$behind" ]; then export STI_FAULT_MODULE=$behind; else unset STI_FAULT_MODULE; fi
    if pkcs11-tool --module "$FAULT_MODULE" --list-slots >said 2>&1; then
        fail "works without a module behind: $behind"
    fi
    grep -q '^sti-fault-module: ' said || fail "not said why: $behind"
done
export STI_FAULT_MODULE=/usr/lib/softhsm/libsofthsm2.so
printf 'latency C_Sign 1ms\nno-such-command\n' >script
if STI_FAULT_SCRIPT=script pkcs11-tool --module "$FAULT_MODULE" --list-slots >said 2>&1; then
    fail "a wrong script is accepted"
fi
grep -q 'error: line 2: no-such-command: no such command' said || fail "not said what is wrong"

# Wrong usage of the command-line program.
status=0
sti-fault --help | grep -q usage || fail "no help"
sti-fault "$directory/control" status 2>said || status=$?
[ "$status" -eq 1 ] || fail "nobody listens, and that is status $status"
grep -q 'nobody listens' said || fail "not said that nobody listens"
status=0
sti-fault "$directory/control" 2>said || status=$?
[ "$status" -eq 2 ] || fail "wrong usage is status $status"
echo "README.md: $blocks blocks hold"
