#!/bin/busybox sh
# The first process of the guest of vm.sh. Twice: in the memory that the kernel unpacks it to, where it puts the file
# system of this machine below and memory above; then, with the word `command`, in what came of it.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

if [ "${1:-}" = command ]; then
    modprobe tun && chmod 666 /dev/net/tun # elsewhere udev makes that device, and opening it loads the module
    ip link set lo up
    echo "guest: Linux $(uname -r), up for $(cut -d' ' -f1 /proc/uptime) s"
    setsid sh /vm/command </dev/null # the first process of a session and the first of all are spared some signals
    echo $? >/vm/code
    echo "guest: ended with $(cat /vm/code), up for $(cut -d' ' -f1 /proc/uptime) s"
    sync
    exec busybox poweroff -f
fi

b=/bin/busybox
$b mkdir -p /proc /dev /below /above /root
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do $b insmod "$module"; done

plan9=trans=virtio,version=9p2000.L,msize=262144
$b mount -t 9p -o "$plan9,ro,cache=loose" machine /below || $b poweroff -f
$b mount -t tmpfs -o mode=755 above /above
$b mkdir -p /above/files /above/work
$b mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work root /root || $b poweroff -f

r=/root
$b mount -t proc proc $r/proc
$b mount -t sysfs sys $r/sys
$b mount -t devtmpfs dev $r/dev
$b mkdir -p $r/dev/pts $r/dev/shm $r/vm
$b mount -t devpts pts $r/dev/pts
$b mount -t tmpfs -o mode=1777 shm $r/dev/shm
$b mount -t tmpfs -o mode=755 run $r/run
$b mount -t 9p -o "$plan9,cache=none" vm $r/vm
$b mount -t cgroup2 cgroup2 $r/sys/fs/cgroup
version=$($b uname -r)
$b mkdir -p "$r/usr/lib/modules/$version"
$b mount --bind "$r/vm/kernel/lib/modules/$version" "$r/usr/lib/modules/$version"
# This process itself changes its root: where the kernel looks for modprobe goes with it.
exec $b switch_root $r /bin/sh /vm/init command
