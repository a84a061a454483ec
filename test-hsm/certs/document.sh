# shellcheck shell=sh
# document.sh - for tests that run the commands of a document unchanged; to be sourced.

# document_open SOURCE_DIR BIN_DIR: make a directory with a SoftHSM and change to it.
document_open() {
    document_source=$1
    document_directory=$(mktemp -d)
    trap 'rm -rf "$document_directory"' EXIT
    mkdir "$document_directory/tokens"
    cat >"$document_directory/softhsm2.conf" <<END
directories.tokendir = $document_directory/tokens
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
END
    export SOFTHSM2_CONF="$document_directory/softhsm2.conf"
    export STI_MODULE="${STI_MODULE:-/usr/lib/softhsm/libsofthsm2.so}"
    export PATH="$2:$PATH"
    cd "$document_directory" || exit 1
}

# document_run NAME BLOCKS: run the blocks in order, at least that many; an error ends the test.
document_run() {
    awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' \
        "$document_source/docs/$1" >commands
    blocks=$(grep -c '^```sh$' "$document_source/docs/$1")
    if [ "$blocks" -lt "$2" ]; then
        echo "docs/$1: only $blocks blocks of commands"
        exit 1
    fi
    if ! sh -eux ./commands; then
        echo "docs/$1: a command failed"
        exit 1
    fi
}

# document_has_no_key: no block may leave a private key outside of the token.
document_has_no_key() {
    if grep -rl 'PRIVATE KEY' . | grep -v '^./tokens/\|^./commands$'; then
        echo "a private key lies in a file"
        exit 1
    fi
}
