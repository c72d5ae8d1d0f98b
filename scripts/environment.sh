# Sourced by quickstart.sh and test.sh: finds a Python and keeps a virtual environment.
#
#   PYTHON                the Python to use first (default: python3, then 3.13 down to 3.10)
#   VENV                  the environment's folder (default: .venv in the checkout)
#   GRADLOOP_CONSTRAINTS  more requirements for pip, such as "tensorflow==2.20.* keras==3.12.*"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-.venv}
[[ $VENV = /* ]] || VENV=$root/$VENV

fail() {
    printf 'error: %s\n' "$@" >&2
    exit 1
}

# Prints "3.12" for a Python that runs, or nothing: a shim on PATH may point at nothing.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

supported() {
    [[ $1 =~ ^3\.1[0-3]$ ]]
}

# Sets `python` to the first candidate that runs, is in range and can make environments.
find_python() {
    local candidate version reasons=()
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10; do
        version=$(version_of "$candidate")
        if [[ -z $version ]]; then
            [[ $candidate != "${PYTHON:-}" ]] || fail "PYTHON=$PYTHON does not run; name a Python 3.10 to 3.13"
        elif ! supported "$version"; then
            reasons+=("$candidate is Python $version; gradloop needs 3.10 to 3.13")
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            reasons+=("$candidate (Python $version) lacks the venv module: sudo apt install python$version-venv")
        else
            python=$candidate
            return
        fi
        [[ $candidate != "${PYTHON:-}" ]] || fail "${reasons[@]}"
    done
    ((${#reasons[@]})) || reasons=("no Python found: sudo apt install python3 python3-venv")
    fail "${reasons[@]}"
}

# The checkout whose gradloop an environment imports.
installed_from='
import importlib.metadata, json, urllib.parse, urllib.request
url = json.loads(importlib.metadata.distribution("gradloop").read_text("direct_url.json"))["url"]
print(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
'

# make_environment EXTRA: an environment with gradloop (editable) and one of its extras. Installs only when
# the project's settings, the constraints or the Python changed since the last install that succeeded.
make_environment() {
    local extra=$1 stamp=$VENV/gradloop-$1.stamp version checksum made other
    made=$(version_of "$VENV/bin/python")
    if [[ -n $made ]] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        if [[ -n ${PYTHON:-} ]]; then
            version=$(version_of "$PYTHON")
            [[ $version = "$made" ]] || fail "$VENV has Python $made but PYTHON=$PYTHON is ${version:-no Python}; remove the folder or set VENV to another"
        fi
        supported "$made" || fail "$VENV has Python $made; gradloop needs 3.10 to 3.13: remove the folder or set VENV to another"
    else
        [[ ! -e $VENV || -e $VENV/pyvenv.cfg ]] || fail "$VENV exists and is no virtual environment; move it away or set VENV to another"
        find_python
        made=$(version_of "$python")
        echo "Making $VENV with Python $made"
        rm -f "$VENV"/gradloop-*.stamp
        "$python" -m venv --clear "$VENV"
    fi

    checksum=$(
        {
            cat "$root/setup.cfg" "$root/pyproject.toml"
            echo "$root $made ${GRADLOOP_CONSTRAINTS:-}"
        } | sha256sum
    )
    if [[ -e $stamp && $(<"$stamp") = "$checksum" ]]; then
        return
    fi
    rm -f "$VENV"/gradloop-*.stamp
    other=$("$VENV/bin/python" -I -c "$installed_from" 2>/dev/null || true)
    if [[ -n $other && $other != "$root" && -d $other ]]; then
        echo "Note: $VENV was of $other, and imports gradloop of $root from now on; set VENV to another folder to have one for each" >&2
    fi
    echo "Installing gradloop and its \"$extra\" extra into $VENV (the first time: some minutes, 2.5 GB)"
    # Not compiled by pip, as of ten thousand modules most are never imported. Those that are, are compiled by an
    # import: once, and not by each of the processes that start together in tests.
    # Word splitting is meant: the constraints are a list of requirements.
    # shellcheck disable=SC2086
    "$VENV/bin/python" -m pip install --disable-pip-version-check --quiet --no-compile \
        --editable "$root[$extra]" ${GRADLOOP_CONSTRAINTS:-} ||
        fail "the install did not finish; its reason is above. Run this again once that is mended"
    TF_CPP_MIN_LOG_LEVEL=3 "$VENV/bin/python" -c "import gradloop.loops, gradloop.models, gradloop.optim" 2>/dev/null ||
        true # who imports it next says why it cannot be
    echo "$checksum" >"$stamp"
    # All of "data" is in "docs", and all of that in "dev".
    [[ $extra = data ]] || echo "$checksum" >"$VENV/gradloop-data.stamp"
    [[ $extra != dev ]] || echo "$checksum" >"$VENV/gradloop-docs.stamp"
}
