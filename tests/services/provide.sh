#!/usr/bin/env bash
# Installs what tests/services starts and this machine lacks: Debian packages where this user may, and Apache Kafka's
# jars into the cache folder through Maven. Says what remains missing and then exits 1; the tests skip what needs it.
# Safe to run again: what is there is not fetched twice.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PAIREC_SERVICES:-${XDG_CACHE_HOME:-$HOME/.cache}/pairec_fast/services}
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive

packages=()
java_works() { java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'; }
java_works || packages+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || packages+=(maven)
command -v redis-server >/dev/null || packages+=(redis-server)
command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql-15)
# A queue to measure against, no service: bench/ring_peers.cpp.
[ -e /usr/include/concurrentqueue/concurrentqueue.h ] || packages+=(libconcurrentqueue-dev)

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if [ ${#packages[@]} -gt 0 ] && command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    # The packages are wanted for their programs: RUNLEVEL=1 keeps their services from starting where invoke-rc.d decides.
    apt() { timeout 300 "${as_root[@]}" env RUNLEVEL=1 apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null; }
    apt update  # an old list may still do
    apt install -y --no-install-recommends "${packages[@]}" || echo "apt-get failed" >&2
fi

jars=$cache/kafka-$(sha256sum "$here/pom.xml" | cut -c1-12)
if [ ! -d "$jars" ] && command -v mvn >/dev/null; then
    mkdir -p "$cache"
    fresh=$(mktemp -d "$cache/fetch.XXXXXX")
    # Renamed when whole, so that a run cut short leaves nothing that looks complete.
    timeout 300 mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$fresh/jars" </dev/null && mv -T "$fresh/jars" "$jars" || echo "mvn failed" >&2
    rm -rf "$fresh"
fi

missing=0
lacks() { echo "missing: $1" >&2; missing=1; }
java_works || lacks "Java 17 or later"
[ -d "$jars" ] || lacks "Apache Kafka's jars"
command -v redis-server >/dev/null || lacks "redis-server"
command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || lacks "PostgreSQL"
exit $missing
