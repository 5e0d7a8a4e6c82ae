#!/bin/sh
# Builds the machine of tests/vm in build/vm: `disk`, a small Debian with systemd in which tunctl is installed as the README
# says, and `vmlinuz`, its kernel. Needs root, and Debian on amd64. What is up to date is kept; `make clean` removes all of it.
#
# Packages come from where apt has Debian from, Python's from where pip has them from. Debian's kernel for clouds finds an
# ext4 on NVMe by itself: there is no initramfs. Codes: 69, 77: this machine cannot have that one, and why.
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
vm=$project/build/vm
root=$vm/root
PYTHON=${PYTHON:-$project/.venv/bin/python}
PACKAGES=systemd-sysv,udev,dbus,kmod,iproute2,iputils-ping,procps,nftables,wireguard-tools,wireguard-go
PACKAGES=$PACKAGES,socat,dnsmasq-base,python3,python3-venv,qemu-guest-agent
# What a boot would spend seconds on, in emulation, and no test looks at.
UNNEEDED="getty.target serial-getty@ttyS0.service systemd-networkd.service systemd-logind.service systemd-binfmt.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount modprobe@configfs.service
    modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-pcrphase.service
    systemd-pcrphase-sysinit.service systemd-udev-trigger.service systemd-remount-fs.service systemd-user-sessions.service
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-machine-id-commit.service
    proc-sys-fs-binfmt_misc.automount systemd-pstore.service systemd-repart.service systemd-firstboot.service
    e2scrub_reap.service e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service
    systemd-tmpfiles-clean.timer"

cannot() { # CODE WHY
    mkdir -p "$vm" && echo "$2" >"$vm/cannot" || true
    echo "no virtual machine here: $2" >&2
    exit "$1"
}

# COMMAND WORD: runs it unless the last time was with the same word.
unless_done() {
    stamp=$vm/$1.is word=$2
    [ "$(cat "$stamp" 2>/dev/null)" != "$word" ] || return 0
    [ "$(id -u)" -eq 0 ] || cannot 77 "only root can build the virtual machine"
    rm -f "$stamp"
    begun=$(date +%s)
    "$1"
    echo "$word" >"$stamp"
    echo "$1: $(($(date +%s) - begun)) s"
}

# The archive's packages for this machine, as apt knows them: lines of a sources.list.
sources() {
    apt-get indextargets --format "deb \$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' 'Origin: Debian' \
        "Architecture: $(dpkg --print-architecture)"
}

bootstrap() {
    rm -rf --one-file-system "$root"
    sources | mmdebstrap --quiet --mode=root --variant=essential --include="$PACKAGES" --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "" "$root" -
}

debian() {
    rm -rf "$vm/kernel"
    [ -n "$(sources)" ] || apt-get -q update || true
    [ -n "$(sources)" ] || cannot 69 "apt has no archive of Debian"
    bootstrap || bootstrap || cannot 69 "the archive has not given what it consists of"
    name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$name" ] || cannot 69 "apt knows no linux-image-cloud-amd64"
    mkdir "$vm/kernel"
    (cd "$vm/kernel" && apt-get -q -o APT::Sandbox::User=root download "$name") || cannot 69 "the archive has not given $name"
    (cd "$vm/kernel" && dpkg-deb -x ./*.deb .)
    cp -r "$vm/kernel/lib/modules" "$root/usr/lib/"
    depmod -b "$root" "${name#linux-image-}"
    cp "$vm/kernel/boot/vmlinuz-"* "$vm/vmlinuz"
    rm -rf "$vm/kernel"
}

# For the Python of the machine, which need not be the one that runs here.
wheels() {
    version=$(chroot "$root" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    rm -rf "$1"
    "$PYTHON" -m pip wheel -q --no-deps --no-build-isolation -w "$1" "$project"
    "$PYTHON" -m pip download -q --only-binary=:all: --python-version "$version" -d "$1" "$1"/tunctl-*.whl pytest pytest-xdist hypothesis
}

tunctl() {
    rm -rf "$root/opt/tunctl" "$root/srv/tunctl"
    wheels "$root/srv/wheels"
    chroot "$root" python3 -m venv /opt/tunctl
    env -i PATH="$PATH" chroot "$root" /opt/tunctl/bin/pip install -q --no-index --find-links /srv/wheels tunctl pytest pytest-xdist hypothesis
    chroot "$root" ln -sf /opt/tunctl/bin/tunctl /usr/local/bin/
    rm -r "$root/srv/wheels"
    mkdir "$root/srv/tunctl"
    (cd "$project" && cp -r --parents reconciler migrations tests pyproject.toml "$root/srv/tunctl")
    chroot "$root" python3 -m compileall -q /srv/tunctl
    cp -r "$project/tests/vm/root/." "$root/"
    (umask 077 && mkdir -p "$root/srv/keys")
    for name in gw office full; do
        chroot "$root" sh -c "umask 077; wg genkey >/srv/keys/$name.key; wg pubkey </srv/keys/$name.key >/srv/keys/$name.pub"
    done
    chroot "$root" systemctl -q enable uplink before eager qemu-guest-agent
    chroot "$root" systemctl -q set-default multi-user.target
    # shellcheck disable=SC2086 # a list of units
    chroot "$root" systemctl -q mask $UNNEEDED
    rm -f "$root/etc/resolv.conf"
    echo nameserver 192.168.50.1 >"$root/etc/resolv.conf"
    echo "127.0.0.1 localhost tested" >"$root/etc/hosts"
    echo tested >"$root/etc/hostname"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    touch "$root/etc/.updated" "$root/var/.updated" # systemd has nothing to make up for
    rm -f "$vm/disk"
    mkfs.ext4 -q -d "$root" "$vm/disk" 1G
}

inputs() {
    cd "$project"
    find reconciler migrations packaging tests pyproject.toml tools/vm_image.sh -type f ! -name '*.pyc' ! -path 'tests/vm/*.py' |
        LC_ALL=C sort | xargs sha256sum | sha256sum
}

rm -f "$vm/cannot"
export PATH="$PATH:/usr/sbin:/sbin"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || cannot 69 "it is a Debian on amd64"
"$project/tools/system.sh" vm || cannot 69 "what builds and runs it cannot be installed"
mkdir -p "$vm"
unless_done debian "$PACKAGES $(sed -n '/^bootstrap()/,/^}/p; /^debian()/,/^}/p' "$0" | sha256sum)"
unless_done tunctl "$(cat "$vm/debian.is") $(inputs)"
