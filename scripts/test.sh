#!/usr/bin/env bash
# Lint, types and tests, in an environment of their own.
#
#   ./scripts/test.sh                      what a change needs: all of it in 8 minutes on two cores
#   ./scripts/test.sh --all                and what a release needs: the tests marked `release`, as in .ci/run
#   ./scripts/test.sh -m long              those on request alone: every network, every number of replicas
#   ./scripts/test.sh tests/optim -k glob  what comes after the options goes to pytest
#   ./scripts/test.sh --no-lint            tests alone
#
# Other kernels and threads: TF_ENABLE_ONEDNN_OPTS=1 TF_NUM_INTRAOP_THREADS=8 ./scripts/test.sh -m numbers
# for the tests that compare the numbers of two computations; the programs that they start follow.
#
# VENV, PYTHON and GRADLOOP_CONSTRAINTS choose the environment: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}

lint=yes
selected=() # setup.cfg's: neither `release` nor `long`
while [[ ${1:-} = --no-lint || ${1:-} = --all ]]; do
    case $1 in
        --no-lint) lint=no ;;
        --all) selected=(-m "not long") ;;
    esac
    shift
done

make_environment dev
cd "$root"
failed=()

stage() {
    local name=$1
    shift
    echo "== $name"
    "$@" || failed+=("$name")
}

checks() {
    # mypy reads folders, not editable installs: here are the three under their installed names.
    export MYPYPATH=$VENV/typing
    mkdir -p "$MYPYPATH/gradloop"
    for package in optim models loops; do
        ln -sfn "$root/$package" "$MYPYPATH/gradloop/$package"
    done
    stage "lint" "$VENV/bin/flake8"
    stage "import order" "$VENV/bin/isort" --check --diff .
    stage "types" "$VENV/bin/mypy" "$MYPYPATH/gradloop" scripts tests docs/_ext
    ((${#failed[@]} == 0)) || printf 'FAILED: %s\n' "${failed[@]}"
    ((${#failed[@]} == 0))
}

# mypy has one process, so it runs beside the tests; what it and its like say comes when they end.
if [[ $lint = yes ]]; then
    { said=$(checks 2>&1) && ok=0 || ok=1; echo "$said"; exit $ok; } &
    checking=$!
    trap 'kill $checking 2>/dev/null || true' EXIT # Ctrl-C does not reach it
fi
# Three processes for two cores: one of them waits for a program that it has started, or for a lock, at any time.
stage "tests" "$VENV/bin/python" -m pytest --numprocesses 3 --dist worksteal "${selected[@]}" "$@"
[[ $lint = no ]] || wait $checking || failed+=("lint or types, see above")

if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "== all passed"
