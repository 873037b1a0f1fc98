#!/bin/sh
# Installs Debian's chromium for the browser tests, where there is none and this user may. Never fails: without it they are skipped.
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get install -qq -y --no-install-recommends chromium fonts-liberation"
    { $install || { apt-get update -qq && $install; }; } >/dev/null 2>&1
fi
command -v chromium >/dev/null ||
    echo "There is no chromium here: the tests of the explorer's page are skipped (as root: apt-get install chromium)."
exit 0
