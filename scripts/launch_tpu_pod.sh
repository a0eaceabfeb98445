#!/usr/bin/env bash
# Runs one search on all hosts of a Cloud TPU pod slice, which find each other by themselves.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: scripts/launch_tpu_pod.sh --name=TPU --zone=ZONE [OPTION ...] search --config=FILE
           --workdir=DIR [...]

  --name=TPU        the name of the TPU VM
  --zone=ZONE       its zone
  --project=ID      its project (that of the gcloud configuration)
  --dir=DIR         where jnas is on every host (jnas, in the home folder)
  --python=PATH     the interpreter there, from DIR (.venv/bin/python)
  --dry-run         print the command and start nothing
  --help            print this

Every host needs jnas with the extra tpu in DIR, and --workdir has to be one folder that all hosts
mount, such as a Filestore share: a run's folder needs file locks. Exit code 75 means that a host
was lost: the same command goes on from the last checkpoint.
EOF
}

fail() {
    echo "launch_tpu_pod.sh: $1; see --help" >&2
    exit 2
}

name="" zone="" project="" dir=jnas python=.venv/bin/python dry=""
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --name=*) name=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --project=*) project=${1#*=} ;;
        --dir=*) dir=${1#*=} ;;
        --python=*) python=${1#*=} ;;
        --dry-run) dry=yes ;;
        --*) fail "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ -n "$name" ] || fail "--name=TPU is missing"
[ -n "$zone" ] || fail "--zone=ZONE is missing"
[ "${1:-}" = search ] || fail "after the options comes: search --config=FILE --workdir=DIR"

step=("$python" -m jnas "$@" --distributed)
command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone")
if [ -n "$project" ]; then command+=("--project=$project"); fi
command+=(--worker=all "--command=cd $(printf %q "$dir") && $(printf '%q ' "${step[@]}")")
if [ -n "$dry" ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
command -v gcloud >/dev/null || fail "gcloud is not on the path: install the Google Cloud CLI"
exec "${command[@]}"
