#!/bin/sh
# tools/vm.sh COMMAND [WORD…]: runs a command as root under a distribution's kernel, in a virtual machine without
# acceleration. For what the kernel of this machine cannot do. Ends with the code of the command.
#
# The guest sees this machine's file system, read-only; what it writes is in its memory and gone at the end, but for /vm,
# which is the directory of the machine (VM_DIR, default build/vm). The kernel is Debian's, as its archive has it now.
# VM_BOUND_S bounds the whole run (900), VM_MEMORY_MB is the guest's memory (2048).
set -eu

project=$(cd "$(dirname "$0")/.." && pwd)
vm=${VM_DIR:-$project/build/vm}
[ $# -gt 0 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 64; }
PATH=$PATH:/usr/sbin:/sbin
for one in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static modprobe:kmod dpkg-deb:dpkg gzip:gzip; do
    command -v "${one%%:*}" >/dev/null || { echo "please install ${one#*:}" >&2; exit 69; }
done
mkdir -p "$vm"
vm=$(cd "$vm" && pwd)

# The kernel and its modules, once.
if [ ! -e "$vm/kernel/version" ]; then
    rm -rf "$vm/kernel" "$vm/package"
    mkdir -p "$vm/package"
    name=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    [ -n "$name" ] || { echo "apt knows no linux-image-amd64: run apt-get update" >&2; exit 69; }
    (cd "$vm/package" && apt-get -q -o APT::Sandbox::User=root download "$name")
    dpkg-deb -x "$vm/package/"*.deb "$vm/kernel"
    rm -rf "$vm/package"
    version=${name#linux-image-}
    depmod -b "$vm/kernel" "$version"
    echo "$version" >"$vm/kernel/version"
fi
version=$(cat "$vm/kernel/version")

# What the kernel starts first: just enough to mount the rest.
rm -rf "$vm/first"
mkdir -p "$vm/first/bin" "$vm/first/modules"
cp "$(command -v busybox)" "$vm/first/bin/busybox"
cp "$project/tools/vm_init.sh" "$vm/first/init"
chmod 755 "$vm/first/init"
cp "$vm/first/init" "$vm/init"
for module in virtio_pci virtio_rng 9pnet_virtio 9p overlay; do
    modprobe -d "$vm/kernel" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | {
    number=100
    while read -r path; do
        number=$((number + 1))
        cp "$path" "$vm/first/modules/$number.ko"
    done
}
(cd "$vm/first" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$vm/first.gz"

quoted() { printf %s "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/' /"; }
{
    printf 'cd %s\n' "$(quoted "$(pwd)")"
    for word in "$@"; do quoted "$word"; done
    echo
} >"$vm/command"
rm -f "$vm/code"

# Nehalem: what older emulators do with AVX corrupts strings.
timeout --foreground "${VM_BOUND_S:-900}" nice -n 19 qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu Nehalem -smp 2 \
    -m "${VM_MEMORY_MB:-2048}" -display none -monitor none -nic none -no-reboot -serial stdio \
    -kernel "$vm/kernel/boot/vmlinuz-$version" -initrd "$vm/first.gz" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0" -device virtio-rng-pci \
    -fsdev local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=machine,mount_tag=machine \
    -fsdev local,id=vm,path="$vm",security_model=none,multidevs=remap -device virtio-9p-pci,fsdev=vm,mount_tag=vm \
    </dev/null || echo "the virtual machine was stopped: $?" >&2
[ -e "$vm/code" ] || { echo "the guest has told no result" >&2; exit 70; }
exit "$(cat "$vm/code")"
