#!/usr/bin/env bash
# Submits one search to SLURM as a job of several processes, which find each other by themselves.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'EOF'
usage: scripts/launch_slurm.sh [OPTION ...] search --config=FILE --workdir=DIR [...]

  --nodes=N           how many nodes (1)
  --tasks-per-node=K  processes on each: as many as it has GPUs, 1 without (1)
  --sbatch=OPTION     an option for sbatch, such as --sbatch=--time=8:00:00; may be repeated
  --dry-run           print the command and submit nothing
  --help              print this

PYTHON=... names the interpreter; by default .venv/bin/python above this script, else python3.
Run inside an allocation (salloc), it starts the processes there instead of submitting a job.
--workdir has to be one folder that all nodes share. A job that loses a process (exit code 75) is
put back into the queue, and goes on from the last checkpoint.
EOF
}

fail() {
    echo "launch_slurm.sh: $1; see --help" >&2
    exit 2
}

nodes=1 tasks=1 dry="" options=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --nodes=*) nodes=${1#*=} ;;
        --tasks-per-node=*) tasks=${1#*=} ;;
        --sbatch=*) options+=("${1#*=}") ;;
        --dry-run) dry=yes ;;
        --*) fail "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ "${1:-}" = search ] || fail "after the options comes: search --config=FILE --workdir=DIR"
[[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "--nodes=$nodes is not a whole number from 1 up"
[[ $tasks =~ ^[1-9][0-9]*$ ]] || fail "--tasks-per-node=$tasks is not a whole number from 1 up"

python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    if [ -x "$here/.venv/bin/python" ]; then python=$here/.venv/bin/python; fi
fi
size=("--nodes=$nodes" "--ntasks-per-node=$tasks")
# The processes end by themselves where one is lost, and say so: SLURM need not kill them.
step=(srun "${size[@]}" --kill-on-bad-exit=0 "$python" -m jnas "$@" --distributed)
if [ -n "${SLURM_JOB_ID:-}" ]; then
    command=("${step[@]}")
else
    again="code=\$?; [ \$code -ne 75 ] || scontrol requeue \$SLURM_JOB_ID; exit \$code"
    command=(sbatch --job-name=jnas --requeue --open-mode=append "${size[@]}"
        ${options[@]+"${options[@]}"} "--chdir=$here" "--wrap=$(printf '%q ' "${step[@]}"); $again")
fi
if [ -n "$dry" ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
command -v "${command[0]}" >/dev/null || fail "${command[0]} is not on the path: is this a SLURM cluster?"
exec "${command[@]}"
