#!/bin/bash
# deb.sh: `make deb`: Debian packages of the source in ./source, and lintian(1)'s opinion of them. They are left here.
set -euo pipefail
for program in dpkg-buildpackage dh lintian; do
    command -v $program >/dev/null || {
        echo "make deb needs $program (in Debian: apt-get install build-essential debhelper lintian)" >&2
        exit 1
    }
done
dpkg-checkbuilddeps source/src/debian/control || {
    echo 'make deb needs these packages (apt-get install build-essential; the others: ./autogen.sh --deps)' >&2
    exit 1
}
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' source/src/debian/changelog)
rm -rf "relayhub-$version"
cp -r source "relayhub-$version"
cp -r source/src/debian "relayhub-$version/debian"
(cd "relayhub-$version" && dpkg-buildpackage --no-sign --build=full >../build.log 2>&1) || {
    tail -n 40 build.log
    exit 1
}
lintian --allow-root --fail-on error,warning --tag-display-limit 0 ./*.changes
ls ./*.deb
