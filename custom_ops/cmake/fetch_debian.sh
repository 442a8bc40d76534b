#!/bin/sh
# fetch_debian.sh FOLDER SUITE PACKAGE...: unpacks Debian packages into FOLDER. With SUITE "host",
# the packages are tools for this machine: they come from its own release, with the dependencies
# that are not installed.
#
# It uses the mirror of this machine's apt, but its own package lists: the system's package lists and
# packages do not change, and root is not needed. The last line of output says what failed.
set -eu

folder=$1
suite=$2
shift 2

for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || { echo "there is no $tool"; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"

# The mirror whose Origin and Label are Debian. They are unknown before the first `apt-get update`:
# then the mirror whose address ends in /debian.
targets() { apt-get "$@" indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null; }
mirror=$(targets | awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
[ -n "$mirror" ] ||
    mirror=$(targets --no-release-info | awk '$1 ~ /\/debian\/?$/ { print $1; exit }')
[ -n "$mirror" ] || { echo "apt has no Debian mirror"; exit 1; }

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $keyring ] || { echo "there is no $keyring"; exit 1; }
release=$suite
[ "$suite" != host ] || release=$(. /etc/os-release && echo "$VERSION_CODENAME")
echo "deb [signed-by=$keyring] $mirror $release main" >"$work/sources.list"

apt() {
    # For downloads apt changes to a user that cannot read our folder.
    apt-get -qq -o APT::Sandbox::User=root \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" \
        -o Acquire::Languages=none -o Acquire::Retries=2 "$@" 2>&1
}

apt update
cd "$work/cache/archives"
if [ "$suite" = host ]; then
    apt install --yes --download-only --no-install-recommends -o Debug::NoLocking=1 "$@"
else
    apt download "$@"
fi
mkdir -p "$folder"
for package in *.deb; do dpkg-deb --extract "$package" "$folder"; done
