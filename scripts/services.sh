#!/bin/sh
# Installs what the tests use from the distribution's packages (only what is missing), and keeps apt from starting any daemon.
set -eu
PATH="$PATH:/usr/sbin"
packages=""
need() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
need chromium chromium
need mariadbd mariadb-server-core
need mariadb mariadb-client-core
need redis-server redis-server
need memcached memcached
need nginx nginx-light
need pgbouncer pgbouncer
need nft nftables
need ip iproute2
command -v cc >/dev/null 2>&1 || packages="$packages gcc libc6-dev"
[ -x /usr/lib/postgresql/15/bin/postgres ] || packages="$packages postgresql-15"
need promtool prometheus
[ -z "$packages" ] && exit 0
command -v apt-get >/dev/null 2>&1 || { echo "services: no apt-get here; install by hand:$packages" >&2; exit 0; }
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -qq -y --no-install-recommends $packages >/dev/null
