#!/bin/sh
# tools/system.sh [vm]: installs the programs that the tests, the demo and the benchmarks use, with `vm` also those of the
# virtual machine, and only those that are missing. Debian, Ubuntu.
set -eu

missing=
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need ip iproute2
need nft nftables
need wireguard-go wireguard-go
need wg wireguard-tools
need openvpn openvpn
need socat socat
need ping iputils-ping
need tcpdump tcpdump
need strace strace
need ps procps
need dnsmasq dnsmasq-base
need dbus-daemon dbus
need iptables iptables
if [ "${1:-}" = vm ]; then
    need qemu-system-x86_64 qemu-system-x86
    need mmdebstrap mmdebstrap
    need depmod kmod
    need mkfs.ext4 e2fsprogs
fi

if python=$("$(dirname "$0")/python.sh" 2>/dev/null); then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        missing="$missing $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
else
    missing="$missing python3 python3-venv"
fi

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "please install what provides:$missing (Debian's names)" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "please run as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root="sudo -n"
fi
echo "installing:$missing"
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" </dev/null; }
apt update
# shellcheck disable=SC2086 # a list of packages
apt install --no-install-recommends -o Dpkg::Options::=--force-confold $missing
