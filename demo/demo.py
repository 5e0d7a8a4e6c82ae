"""`make demo`: the whole life of three tunnels in throw-away network namespaces, each command as a user would type it.

Ends with 0 when everything was as it says, else with 1. Nothing is asked, nothing is left, the machine's own network is
not touched; it proves both at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

from stage import PROJECT, Failed, Screen, Stage, interruptible, missing

LONGEST_S = 90
HUB = "203.0.113.10"
PING = "ping -q -c 2 -i 0.2 -W 2"


def main() -> int:
    problem = missing()
    if problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 77
    screen = Screen()
    begun = time.monotonic()
    stage: Stage | None = None
    try:
        with interruptible(LONGEST_S):
            stage = Stage(screen)
            play(stage)
    except KeyboardInterrupt:
        screen.bad("interrupted")
        return 130
    except (Failed, subprocess.SubprocessError, OSError) as error:
        screen.bad(str(error))
        return 1
    finally:
        if stage is not None:
            stage.close()
            screen.remark("the namespaces, their processes and the demo's directory have been removed")
    screen.remark(f"{time.monotonic() - begun:.0f} s in all")
    return 0


def play(stage: Stage) -> None:
    screen = stage.screen
    screen.remark("Two network namespaces on one wire: `host`, where tunctl works, and `hub`, the other end of its tunnels.")
    screen.remark("Behind each # stands what is typed, under it what it printed. Your own network is not touched.")
    set_up(stage)
    first_time(stage)
    look(stage)
    twice(stage)
    breakages(stage)
    the_end(stage)


def set_up(stage: Stage) -> None:
    screen = stage.screen
    screen.chapter("The stage")
    stage.build()
    shutil.copy(PROJECT / "examples" / "desired.toml", stage.dir)
    stage.type("sh snapshot > before.txt", then="links, addresses, routes, rules, packet filter: to compare with at the end")
    stage.type("tunctl key generate --type x25519 --out office.key", then="our WireGuard key; mode 0600, never overwritten")
    stage.quiet("hub", "tunctl key generate --type x25519 --out hub.key && tunctl key public --in hub.key --out hub.pub")
    public = "$(cat hub.pub)"
    stage.type(
        f'sed -i "s|^public_key = .*|public_key = \\"{public}\\"|" desired.toml', then="the hub's key goes into the file"
    )
    stage.type("grep -v '^#' desired.toml", then="all there is to write: examples/desired.toml, with that key")
    engines_of_the_hub(stage)
    screen.remark("The hub has been set up by hand, with wireguard-go, wg, socat and ip.")


def engines_of_the_hub(stage: Stage) -> None:
    """The other end of both tunnels, ready before we call: a first call that nobody answers costs 5 s."""
    ours = stage.quiet("host", "tunctl key public --in office.key").strip()
    wireguard = stage.start("hub", "wireguard-go -f wg0", own_run_wireguard=True)
    reach = f"nsenter -t {wireguard.pid} -m"
    listens = "grep -q ' 00010000 .*/wg0.sock' /proc/net/unix"  # wg would remove a socket that does not listen yet
    stage.wait("hub", listens, "the hub's wireguard-go listens")
    stage.quiet(
        "hub", f"{reach} wg set wg0 private-key {stage.dir}/hub.key listen-port 51820 peer '{ours}' allowed-ips 10.8.0.2/32"
    )
    stage.start("hub", "socat UDP4-DATAGRAM:203.0.113.2:7001,bind=:7001 TUN,tun-name=tun0,tun-type=tun,iff-no-pi")
    stage.wait("hub", "ip link show tun0", "the hub's socat is there")
    for dev, address, back in (("wg0", "10.8.0.1/32", "10.8.0.2"), ("tun0", "10.9.0.1/32", "10.9.0.2")):
        stage.quiet("hub", f"ip address add {address} dev {dev} && ip link set {dev} up && ip route add {back} dev {dev}")
    stage.quiet("hub", "ip address add 10.20.0.1/32 dev lo")


def first_time(stage: Stage) -> None:
    stage.screen.chapter("Plan, apply")
    stage.type(
        "tunctl plan desired.toml", expect=2, says=("+ link wg-office",), then="2 is: there are changes. Nothing was changed"
    )
    stage.type("tunctl apply desired.toml", then="done, and a second look found nothing left to do")
    stage.type(f"{PING} 10.8.0.1", says=(" 0% packet loss",), then="through WireGuard")
    stage.type(f"{PING} 10.20.0.1", says=(" 0% packet loss",), then="to a network behind the hub, by a route of the tunnel")
    stage.type(f"{PING} 10.9.0.1", says=(" 0% packet loss",), then="through the program of the exec tunnel")


def look(stage: Stage) -> None:
    stage.screen.chapter("Status tells the truth")
    stage.type(
        "tunctl status", expect=3, says=("degraded", "handshake"),
        then="3 is degraded: nobody has opened the device of the tunnel `vm`, so it would swallow packets",
    )  # fmt: skip
    stage.start("host", "socat -u TUN,tun-name=tun-vm,tun-type=tun,iff-no-pi OPEN:/dev/null")
    stage.wait("host", "ip link show tun-vm | grep -q LOWER_UP", "a program has opened tun-vm")
    stage.screen.remark("Now a program opens it (socat, in place of a virtual machine).")
    stage.type("tunctl status vm", says=("connected",), then="connected")
    stage.type(
        "ip route show table all proto 115", says=("wg-office",), then="every object of ours is marked: see it without tunctl"
    )


def twice(stage: Stage) -> None:
    screen = stage.screen
    screen.chapter("Once is enough")
    before = stage.quiet("host", "sha256sum state/*")
    monitor = stage.start("host", "ip monitor link address route rule >> monitor.log")
    stage.wait(
        "host",
        "ip address add 127.0.0.9/32 dev lo; ip address del 127.0.0.9/32 dev lo; test -s monitor.log",
        "ip monitor hears",
    )
    stage.quiet("host", "sleep 0.2; : > monitor.log")
    stage.type("tunctl apply desired.toml", says=("no changes",), then="a second apply finds everything as it should be")
    monitor.terminate()
    monitor.wait()
    heard = stage.quiet("host", "cat monitor.log")
    if heard or stage.quiet("host", "sha256sum state/*") != before:
        raise Failed(f"the second apply has written something: {heard or 'the store'}")
    screen.good("and writes nothing: `ip monitor` heard nothing meanwhile, and the store is the same file")


def breakages(stage: Stage) -> None:
    screen = stage.screen
    screen.chapter("Somebody deletes a route")
    stage.type("ip route del 10.20.0.0/16", then="by hand, behind tunctl's back")
    stage.type("tunctl status office", expect=3, says=("degraded", "10.20.0.0/16"), then="3: degraded, and the reason is named")
    stage.type("tunctl reconcile", says=("+ route 10.20.0.0/16 dev wg-office",), then="one pass, as a timer makes it")
    stage.type(f"{PING} 10.20.0.1", says=(" 0% packet loss",), then="back")

    screen.chapter("The WireGuard process is killed")
    pid = owner_of(stage, "office")
    stage.type(f"kill -9 {pid}", then="wireguard-go is dead; device, addresses and routes stay, so nothing goes out in clear")
    stage.type(
        "tunctl status office",
        expect=3,
        says=("degraded", "not running"),
        then="3: the kernel says that nobody holds the device",
    )
    stage.type("tunctl reconcile", says=("+ owner wireguard-go",), then="started again, keys and peers set again")
    stage.type(f"{PING} 10.8.0.1", says=(" 0% packet loss",), then="back")

    screen.chapter("Somebody deletes an interface")
    stage.type("ip link del tun-lab", then="and with it, the kernel removes its addresses and routes")
    stage.type("tunctl status lab", expect=2, says=("stale",), then="2: stale, it was up and its interface is gone")
    stage.type("tunctl reconcile", says=("+ owner /usr/bin/socat", "+ route 10.40.0.0/16"), then="all of it again")
    stage.type(f"{PING} 10.9.0.1", says=(" 0% packet loss",), then="back")
    stage.type("tunctl status", says=("connected",), then="0: everything is connected")


def owner_of(stage: Stage, tunnel: str) -> int:
    """The pid of a tunnel's process, from `status --json`."""
    seen = json.loads(stage.quiet("host", f"tunctl status {tunnel} --json"))
    owner = seen["tunnels"][0]["owner"]
    if not owner or not owner["running"]:
        raise Failed(f"{tunnel} has no running owner")
    return int(owner["pid"])


def the_end(stage: Stage) -> None:
    screen = stage.screen
    screen.chapter("Down, and nothing is left")
    stage.type("tunctl down --all", says=("- link wg-office",), then="down, and held: reconcile and a reboot leave it so")
    stage.type(
        "sh snapshot > after.txt; diff before.txt after.txt", then="no difference: not one link, address, route or rule is left"
    )
    left = stage.inhabitants("host")
    if left:
        raise Failed(f"processes are left in the namespace: {left}")
    screen.good("and no process")
    changed = stage.machine_changed()
    if changed:
        screen.output(changed)
        raise Failed("the machine's own network is not what it was before")
    screen.good("the network of this machine is what it was before: the same snapshot, taken before and after, outside")
    screen.chapter("All of it was as expected")
    screen.remark("plan and apply, traffic through both tunnels, a second apply without changes, three repairs, no trace.")
    screen.remark("Next: README.md, examples/, `make test`, and on a real host `sudo tunctl apply desired.toml`.")


if __name__ == "__main__":
    sys.exit(main())
