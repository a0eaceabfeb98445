#!/usr/bin/env bash
# Runs one search as several processes, on this machine or on hosts that ssh reaches.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'EOF'
usage: scripts/launch_hosts.sh [OPTION ...] search --config=FILE --workdir=DIR [...]

  --processes=N    processes on this machine, talking over 127.0.0.1 (2)
  --hosts=A,B,...  instead, one process on each of these hosts; the first one coordinates
  --port=P         of the coordinator (a free one on this machine; 8476 with --hosts)
  --dir=DIR        where jnas is on the hosts (the folder above this script)
  --dry-run        print the commands and start nothing
  --help           print this

PYTHON=... names the interpreter; by default .venv/bin/python in that folder, else python3.
--workdir has to be one folder that all hosts share. The exit code is 0 where all processes end
well; else that of the first that failed for a reason of its own, or 75 where the others only lost
it: then the same command goes on from the last checkpoint.
EOF
}

fail() {
    echo "launch_hosts.sh: $1; see --help" >&2
    exit 2
}

processes=2 hosts="" port="" dir=$here dry=""
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --processes=*) processes=${1#*=} ;;
        --hosts=*) hosts=${1#*=} ;;
        --port=*) port=${1#*=} ;;
        --dir=*) dir=${1#*=} ;;
        --dry-run) dry=yes ;;
        --*) fail "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ "${1:-}" = search ] || fail "after the options comes: search --config=FILE --workdir=DIR"
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "--processes=$processes is not a whole number from 1 up"
[[ $port =~ ^[0-9]*$ ]] || fail "--port=$port is not a number"

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    if [ -x "$here/.venv/bin/python" ]; then python=$dir/.venv/bin/python; fi
fi
if [ -n "$hosts" ]; then
    IFS=, read -r -a where <<<"$hosts"
    processes=${#where[@]}
    coordinator=${where[0]##*@}:${port:-8476}
else
    if [ -z "$port" ]; then
        port=$("$python" -c 'import socket as s; x = s.socket(); x.bind(("127.0.0.1", 0))
print(x.getsockname()[1])')
    fi
    coordinator=127.0.0.1:$port
fi

children=()
# shellcheck disable=SC2317 # the trap calls it
stop() { for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null || true; done; }
trap stop INT TERM

for ((i = 0; i < processes; i++)); do
    command=("$python" -m jnas "$@" "--coordinator=$coordinator" "--num_processes=$processes"
        "--process_id=$i")
    if [ -n "$hosts" ]; then
        # A terminal, so that what runs on the host ends where ssh does.
        command=(ssh -tt -o BatchMode=yes "${where[i]}"
            "cd $(printf %q "$dir") && exec $(printf '%q ' "${command[@]}")")
    fi
    if [ -n "$dry" ]; then
        printf '%q ' "${command[@]}"
        echo
        continue
    fi
    "${command[@]}" </dev/null &
    children+=($!)
done

worst=0
for ((i = 0; i < ${#children[@]}; i++)); do
    code=0
    wait "${children[i]}" || code=$?
    while kill -0 "${children[i]}" 2>/dev/null; do # a trapped signal cuts `wait` short
        code=0
        wait "${children[i]}" || code=$?
    done
    if [ "$code" -ne 0 ]; then
        echo "launch_hosts.sh: process $i of $processes ended with exit code $code" >&2
        if [ "$worst" -eq 0 ] || [ "$worst" -eq 75 ]; then worst=$code; fi
    fi
done
exit "$worst"
