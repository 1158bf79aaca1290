#!/bin/sh
# The smoke test on the packages as they are published, installed into an empty directory:
#   sh smoke/installed.sh PACKAGES TARGET
# A shell script, since npm can be started from a shell alone on every system.
set -eu
project=$(mktemp -d)
cp -R "$(dirname "$0")" "$project/smoke"
cp "$1"/oauth-refresh-lock-[0-9]*.tgz "$project/main.tgz"
cp "$1"/oauth-refresh-lock-"$2"-[0-9]*.tgz "$project/platform.tgz"
cd "$project"
echo '{ "private": true }' >package.json
npm install --no-audit --no-fund ./main.tgz ./platform.tgz
node smoke/smoke.mjs
