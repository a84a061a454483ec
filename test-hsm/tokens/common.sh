# common.sh - shared by with-nss, with-tpm2 and with-p11-kit; sourced.
# shellcheck shell=bash

# Daemons close every descriptor up to the limit, which takes minutes if it is a billion.
ulimit -S -n 1024
umask 077

usage() { # SCRIPT
    sed -n '2,/^set/s/^# \{0,1\}//p' "$1" | sed '$d' >&2
    exit 2
}

missing() { # PACKAGE
    echo "skipped: package $1 is not installed"
    exit 77
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || missing "$2"
}

first_of() { # FILE ...
    [ -e "$1" ] && printf '%s\n' "$1"
}

# From here on, exit ends everything that start() started, the last first, and removes the
# directory.
begin() { # DIRECTORY SKIPS
    dir=$1
    pids=()
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    export STI_TEST_SKIPS=$2
    # A test that forks opens its token, which has threads, in the child.
    TSAN_OPTIONS="${TSAN_OPTIONS-} die_after_fork=0 suppressions=$(dirname "$2")/tsan.supp"
    export TSAN_OPTIONS
}

finish() {
    local status=$? i
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$dir"
    exit "$status"
}

start() { # WHAT COMMAND ...: in the background, its output in $dir/WHAT.log
    local what=$1
    shift
    "$@" </dev/null >"$dir/$what.log" 2>&1 &
    pids+=($!)
}

await() { # WHAT CONDITION ...
    local what=$1 pid=${pids[-1]}
    shift
    for _ in $(seq 200); do
        "$@" 2>/dev/null && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "$what did not start" >&2
    cat "$dir/$what.log" >&2
    exit 1
}

# Not exec, because the started programs have to be ended. In the background, because bash handles a
# signal only between commands.
run() { # COMMAND ...
    local status=0
    "$@" &
    pids+=($!)
    wait $! || status=$?
    unset 'pids[-1]'
    exit "$status"
}
