#!/bin/sh
# Create or update .venv: environment.sh runtime|development (PYTHON selects the interpreter)
#
# A stamp in .venv identifies the installed lock file. It is written last, and a marker exists until then,
# so that an interrupted or failed environment is rebuilt from scratch.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
log=$venv/install.log
unfinished=$venv/.unfinished
kind=$1
python=${PYTHON:-python3}

case $kind in
    runtime) lock=requirements.txt ;;
    development) lock=requirements-dev.txt ;;
esac

fail() {
    echo "error: $1" >&2
    exit 1
}

# Includes the path, because scripts in .venv/bin don't survive a move.
stamp() {
    echo "$(pwd) $(cksum <"$1")"
}

is_stamped() {
    [ -f "$venv/.$1" ] && [ "$(cat "$venv/.$1")" = "$(stamp "$2")" ]
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Whether .venv is complete, belongs to this directory, and has the version of PYTHON.
is_usable() {
    [ -x "$venv/bin/python" ] || return 1
    case $(cat "$venv/.runtime" 2>/dev/null) in "$(pwd) "*) ;; *) return 1 ;; esac
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON" 2>/dev/null)" = "$(version_of "$venv/bin/python")" ]
}

check_python() {
    command -v "$python" >/dev/null ||
        fail "$python not found; Python 3.11 or newer is needed (make PYTHON=... names one)"
    version=$(version_of "$python") || fail "$python does not run"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is Python $version; 3.11 or newer is needed (make PYTHON=python3.12 ... names another)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module; on Debian and Ubuntu: apt install python$version-venv"
}

create() {
    check_python
    echo "Creating $venv with Python $version"
    "$python" -m venv --clear $venv || fail "$venv cannot be created"
}

install_lock() {
    echo "Installing the packages of $lock"
    # Most modules are never imported, so Python compiles each on first import instead.
    $venv/bin/python -m pip install --disable-pip-version-check --no-compile --require-hashes -r "$lock" \
        >$log 2>&1 || explain
    # Make `app` importable from here and add its command to .venv/bin, as if it were installed.
    $venv/bin/python -c 'import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "nanobanana_gateway.pth").write_text(sys.argv[1] + "\n")' "$(pwd)"
    printf '#!/bin/sh\nexec "${0%%/*}/python" -P -m app "$@"\n' >$venv/bin/nanobanana-gateway
    chmod +x $venv/bin/nanobanana-gateway
}

explain() {
    if grep -qE '(Connection|NameResolution|Timeout|Proxy|SSL)Error|(Connect|Read)Timeout' $log; then
        fail "the package index cannot be reached; check the network, HTTPS_PROXY or PIP_INDEX_URL (see $log)"
    fi
    fail "installing failed: $(grep -m 1 '^ERROR: ' $log || tail -n 1 $log) (see $log)"
}

if is_usable && is_stamped "$kind" "$lock"; then
    exit 0
fi
if ! is_usable || [ -e $unfinished ]; then
    create
fi
touch $unfinished
install_lock
# The development lock contains the runtime lock.
stamp requirements.txt >$venv/.runtime
if [ "$kind" = development ]; then
    stamp "$lock" >$venv/.development
fi
rm $unfinished
echo "$venv is ready"
