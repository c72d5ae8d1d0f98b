#!/usr/bin/env bash
# Builds the site of docs/ into docs/_build/html. Warnings are errors; nothing is read from the network.
#
#   ./scripts/docs.sh                    all of it, anew, with each guide executed
#   ./scripts/docs.sh --quick            what changed since, and no guide executed
#   ./scripts/docs.sh guides/start.py    what changed since, and this guide executed
#
# VENV, PYTHON and GRADLOOP_CONSTRAINTS choose the environment: see environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

target=docs/_build
options=(--fresh-env)
case ${1:-} in
    "") ;;
    --quick)
        target=docs/_build/quick
        options=(-D nb_execution_mode=off)
        ;;
    *)
        target=docs/_build/quick
        options=()
        export GRADLOOP_DOCS_ONLY=${1#docs/}
        [[ -e $root/docs/$GRADLOOP_DOCS_ONLY ]] || fail "docs/$GRADLOOP_DOCS_ONLY does not exist; name a page, such as guides/start.py"
        # A page that has not changed would not be read again.
        touch "$root/docs/$GRADLOOP_DOCS_ONLY"
        ;;
esac

make_environment docs
cd "$root"
"$VENV/bin/python" -m sphinx --builder html --nitpicky --fail-on-warning --jobs 2 --quiet "${options[@]}" \
    --doctree-dir "$target/doctrees" docs "$target/html"
# Pages load nothing from elsewhere. (They link to it.)
if grep -rElI --include='*.html' '<(script|link|img|iframe)[^>]* (src|href)="(https?:)?//' "$target/html"; then
    fail "these pages load something from the network"
fi
echo "Open file://$root/$target/html/index.html"
