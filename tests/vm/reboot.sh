#!/bin/sh
# Runs in the guest of tools/vm.sh, twice: `reboot.sh before` brings up a tunnel of each driver and ends without taking
# them down; `reboot.sh after`, in the next boot, finds the store and the hints of the one before. PYTHON runs tunctl.
set -eu
kept=/vm/reboot
state=/var/lib/tunctl
run=/run/tunctl
etc=/etc/tunctl

fail() { echo "FAILED: $*" >&2; exit 1; }
tunctl() { "$PYTHON" -m reconciler "$@"; }
expect() { # CODE WORD…
    wanted=$1; shift
    code=0
    tunctl "$@" >/tmp/told 2>&1 || code=$?
    sed 's/^/    /' /tmp/told
    [ "$code" -eq "$wanted" ] || fail "tunctl $*: $code, not $wanted"
}
told() { grep -q -- "$1" /tmp/told || fail "it does not say: $1"; }
host() { ip -o addr; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; ip link | sed 's/^[0-9]*: //'; }

case $1 in
before)
    rm -rf $kept $state $run $etc
    mkdir -p $etc
    tunctl key generate --type x25519 --out $etc/wg.key
    tunctl key generate --type x25519 --out $etc/peer.key
    cat >$etc/desired.toml <<END
version = 1
[tunnels.wg]
driver = "wireguard"
interface = "wg-lab"
addresses = ["10.80.0.2/24", "fd00:80::2/64"]
[tunnels.wg.wireguard]
private_key_file = "wg.key"
listen_port = 51900
[[tunnels.wg.wireguard.peers]]
public_key = "$(tunctl key public --in $etc/peer.key)"
allowed_ips = ["10.87.0.0/16", "fd00:87::/32"]
[tunnels.prog]
driver = "exec"
addresses = ["10.81.0.2/24"]
exec = { command = ["/usr/bin/python3", "$PWD/tests/programs/holder.py", "{interface}"] }
[[tunnels.prog.routes]]
to = "10.85.0.0/16"
[tunnels.plain]
driver = "tun"
addresses = ["10.83.0.2/24"]
[[tunnels.plain.rules]]
to = "10.84.5.0/24"
lookup = 200
END
    expect 0 apply
    expect 0 status wg prog
    expect 3 status plain
    [ "$(ip -d link show wg-lab | grep -c wireguard)" -gt 0 ] || fail "wg-lab is not the kernel's"
    expect 0 apply
    told "no changes"
    mkdir -p $kept # this machine has no disk of its own
    cp -a $state $kept/state
    cp -a $run $kept/run
    cp -a $etc $kept/etc
    ;;
after)
    host >/tmp/before
    cp -a $kept/state $state
    cp -a $kept/run $run
    cp -a $kept/etc $etc
    [ -e $run/tunnels/prog/handles.json ] || fail "no hints are left from the boot before"
    expect 2 status
    told "no longer present"
    expect 0 reconcile
    expect 0 status wg prog
    expect 3 status plain
    expect 0 plan
    expect 0 apply
    told "no changes"
    expect 0 down --all
    host >/tmp/after
    diff /tmp/before /tmp/after || fail "down leaves something"
    [ -z "$(ls $run/tunnels)" ] || fail "down leaves hints"
    rm -rf $kept
    echo "as before"
    ;;
*) fail "before or after" ;;
esac
