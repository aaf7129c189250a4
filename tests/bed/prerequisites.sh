#!/bin/sh
# Install the Debian packages that the test bed needs and this machine lacks; says which, or nothing.
set -eu

[ "$(id -u)" = 0 ] || { echo "prerequisites: not root, so nothing is installed; tests of the real engine will be skipped."; exit 0; }
command -v apt-get >/dev/null || { echo "prerequisites: no apt-get here, so nothing is installed; tests of the real engine will be skipped."; exit 0; }

missing=""
need() { # need PACKAGE PROGRAM: the package is wanted unless the program exists
    command -v "$2" >/dev/null 2>&1 || missing="$missing $1"
}
need docker.io dockerd
need docker.io docker
need iproute2 ip
need iptables iptables
need kmod modprobe
need mmdebstrap mmdebstrap
need busybox-static busybox
need curl curl
need dnsutils dig
need docker-compose docker-compose
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
# A kernel with AppArmor makes dockerd refuse containers unless the parser is there.
if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then need apparmor apparmor_parser; fi
[ -d /sys/fs/cgroup/memory ] || [ -e /sys/fs/cgroup/cgroup.controllers ] || missing="$missing cgroupfs-mount"

# shellcheck disable=SC2086 # a list of words
missing=$(printf '%s\n' $missing "$@" | sort -u | tr '\n' ' ')
wanted=""
for package in $missing; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || wanted="$wanted $package"
done
[ -n "$wanted" ] || exit 0

echo "prerequisites: installing$wanted"
# The packages must not start a Docker on the machine itself: the bed starts its own, in a namespace.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! { apt-get -q update && apt-get -q -y --no-install-recommends install $wanted; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "prerequisites: apt-get failed; its last lines are above, all of them in $log." >&2
    exit 1
fi
rm -f "$log"
case "$wanted" in
*docker.io*) [ ! -d /run/systemd/system ] || systemctl -q disable docker.service docker.socket containerd.service || true ;;
esac
