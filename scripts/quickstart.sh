#!/usr/bin/env bash
# Trains LeNet-5 on 5,000 real handwritten digits, from a bare machine with Python 3.10 to 3.13.
#
#   ./scripts/quickstart.sh                    makes .venv, installs gradloop, trains
#   ./scripts/quickstart.sh --train-only conv  any option of train_lenet.py; --help lists them
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

for argument in "$@"; do
    if [[ $argument = --help || $argument = -h ]]; then # which needs no environment
        find_python
        exec "$python" "$root/scripts/train_lenet.py" --help
    fi
done
make_environment data
# TensorFlow turns on its quicker convolutions by itself only on x86 processors with instructions for neural
# networks; the others gain as much.
[[ $(uname -m) != x86_64 ]] || export TF_ENABLE_ONEDNN_OPTS=${TF_ENABLE_ONEDNN_OPTS:-1}
exec "$VENV/bin/python" "$root/scripts/train_lenet.py" \
    --log-dir "$root/runs/quickstart-$(date +%Y%m%d-%H%M%S)" "$@"
