#!/bin/sh
# fetch_debian.sh FOLDER SUITE PACKAGE...: unpacks packages of Debian into FOLDER. With SUITE "host",
# tools for this machine: of its own release, with the packages that they depend on and it lacks.
#
# From the mirror that this machine's apt uses, with a state of its own: neither the system's package
# lists nor its packages change, and no rights are needed. The last line of output tells what failed.
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

# Whose Origin and Label are Debian; before the first `apt-get update`, whose address ends so.
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
    # For downloads apt drops to a user who may not enter our folder.
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
