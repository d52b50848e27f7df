#!/bin/sh
# Makes sure of a Chromium for the tests of the report's page, and prints what pytest is to select with -m.
#
# Found: nothing is left out. Missing, and this is root on a machine with apt-get: installs Debian's.
# Missing otherwise: says that the browser's tests are left out, or fails where the first argument is "required".
set -u

found() {
    for name in "${PTYONNX_CHROMIUM:-chromium}" chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    return 1
}

if ! found && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the tests of the report's page" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >&2
fi
found && exit 0
if [ "${1:-}" = required ]; then
    echo "No Chromium for the tests of the report's page: install the package chromium" >&2
    exit 1
fi
echo "LEFT OUT: the tests of the report's page in a browser; install chromium, then run make test again" >&2
echo "not browser"
