package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// The objectives of docs/objectives.md, on this machine.
const (
	// chaosNearBFD and chaosFarBFD are the intervals of sessions with the rack's ToRs and
	// with reflectors; three of them are the time in which the death of a peer is noticed. A
	// reflector's is longer: the way to it may have to change first.
	chaosNearBFD = 300 * time.Millisecond
	chaosFarBFD  = time.Second
	chaosDead    = 3 * chaosNearBFD
	// chaosSwitch is how long after that no packet goes to the dead any more; chaosBusy is
	// for the ToRs' share of it: fourteen programs and the witnesses share the processors,
	// and BIRD has no process of its own for BFD.
	chaosSwitch = 300 * time.Millisecond
	chaosBusy   = 500 * time.Millisecond
	// chaosReturn is how long after a network is whole again its sessions and routes are.
	chaosReturn = 15 * time.Second
	// chaosStart bounds the time until all is well at first.
	chaosStart = time.Minute
)

// harm is a kind of what happens to a site, near a node.
type harm struct {
	name string
	do   func(c *chaos, n *lab.Node)
	// brief: it is short, loses nothing, and needs no BFD, which a machine that is busy
	// with other tests starves.
	brief bool
}

// chaosHarms are all kinds. A harm without [chaos.losing] loses nothing.
func chaosHarms() []harm {
	list := []harm{
		{name: "agent killed", do: func(c *chaos, n *lab.Node) { c.restart(n, n.Kill, func() {}) }, brief: true},
		{name: "agent ended", do: func(c *chaos, n *lab.Node) { c.restart(n, n.Stop, func() {}) }, brief: true},
		{name: "agent upgraded", do: func(c *chaos, n *lab.Node) {
			must(c.t, labtest.ReplaceProgram(labtest.Bin(), c.lab.Bin, "onlinkd"))
			c.restart(n, n.Stop, func() {})
		}},
		{name: "agent killed while it starts", do: func(c *chaos, n *lab.Node) {
			c.restart(n, n.Kill, func() {
				for range 1 + c.rnd.IntN(3) {
					must(c.t, n.Start(c.ctx))
					c.wait(time.Duration(c.rnd.IntN(300)) * time.Millisecond)
					must(c.t, n.Kill())
				}
			})
		}},
		{name: "agent stopped", do: (*chaos).freeze},
		{name: "reflector killed", do: func(c *chaos, _ *lab.Node) {
			rr := c.lab.Reflectors()[c.rnd.IntN(2)]
			c.restart(rr, rr.Kill, func() { c.wait(c.seconds(1, 8)) })
		}},
		{name: "registry lost", do: (*chaos).loseRegistry},
		{name: "ToR cut off", do: (*chaos).cutToR},
		{name: "ToR restarted", do: (*chaos).restartToR},
		{name: "node cut off", do: (*chaos).cutNode},
		{name: "rack cut off", do: (*chaos).cutRack},
		{name: "disk full", do: (*chaos).fillDisk, brief: true},
		{name: "database deleted", do: func(c *chaos, n *lab.Node) {
			c.restart(n, n.Kill, func() { c.deleteDatabase(n) })
		}},
		{name: "database deleted while in use", do: func(c *chaos, n *lab.Node) {
			c.deleteDatabase(n)
			c.wait(c.seconds(0, 3))
			c.restart(n, n.Kill, func() {})
		}},
		{name: "database restored", do: (*chaos).restore, brief: true},
		{name: "database cut short", do: (*chaos).truncate},
		{name: "routes deleted by hand", do: func(c *chaos, n *lab.Node) {
			c.losing("routes deleted", of(n), labtest.Back, func() {
				routes, err := n.NS.Routes(labtest.RouteProtocol)
				must(c.t, err)
				for _, r := range routes { // a pod's may have gone with the pod
					if err := n.NS.DeleteRoute(r.Prefix, labtest.RouteProtocol); !errors.Is(err, unix.ESRCH) {
						must(c.t, err)
					}
				}
			})
		}},
		{name: "a pod's routes deleted by hand", do: func(c *chaos, n *lab.Node) {
			c.losing("a pod's routes deleted", of(n), labtest.Back, func() {
				for _, a := range labtest.PodOf(c.lab, n.Name).Addrs {
					p, err := a.Prefix(a.BitLen())
					must(c.t, err)
					must(c.t, n.NS.DeleteRoute(p, labtest.RouteProtocol))
				}
			})
		}},
		{name: "tunnels deleted by hand", do: (*chaos).deleteTunnels},
		{name: "forwarding off by hand", do: func(c *chaos, n *lab.Node) {
			c.losing("forwarding off", of(n), labtest.Back, func() {
				must(c.t, n.NS.Sysctl("net/ipv4/ip_forward", "0"))
				must(c.t, n.NS.Sysctl("net/ipv6/conf/all/forwarding", "0"))
			})
		}},
		{name: "neighbours flushed by hand", do: func(c *chaos, n *lab.Node) { c.run(n, "ip neigh flush dev eth0") }},
		{name: "a rule in the way", do: func(c *chaos, n *lab.Node) {
			c.losing("a rule", of(n), 0, func() {
				c.run(n, "ip rule add pref 90 to 10.244.0.0/16 blackhole")
				c.wait(c.seconds(0, 2))
				c.run(n, "ip rule del pref 90")
			})
		}},
	}
	if os.Getenv("ONLINK_BED") != "uml" { // no nftables there
		list = append(list,
			harm{name: "packet filter flushed by hand", do: func(c *chaos, n *lab.Node) { c.run(n, "nft flush ruleset") }},
			harm{name: "lossy wire", do: (*chaos).lossy},
			harm{name: "rogue tunnel sender", do: (*chaos).rogue})
	}
	return list
}

// wait lets time pass while what was done is in force.
func (c *chaos) wait(d time.Duration) {
	c.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
		c.t.Fatal(c.ctx.Err())
	}
}

// seconds is a random time.
func (c *chaos) seconds(least, most int) time.Duration {
	return time.Duration(least)*time.Second + time.Duration(c.rnd.Int64N(int64(most-least)*int64(time.Second)))
}

// run runs a command on a node, as its administrator.
func (c *chaos) run(n *lab.Node, command string) {
	c.t.Helper()
	w := strings.Fields(command)
	must(c.t, n.NS.Do(func() error {
		if text, err := exec.CommandContext(c.ctx, w[0], w[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s on %s: %w: %s", command, n.Name, err, text)
		}
		return nil
	}))
}

func (c *chaos) database(n *lab.Node) string { return filepath.Join(n.StateDir(), "onlink.db") }

// restart ends an agent amid its work, has something done, and starts it.
func (c *chaos) restart(n *lab.Node, end func() error, change func()) {
	c.t.Helper()
	must(c.t, end())
	change()
	must(c.t, n.Start(c.ctx))
	must(c.t, n.WaitReady(c.ctx))
}

// freeze stops an agent's process for some seconds. BFD goes on: it is a process of its
// own.
func (c *chaos) freeze(n *lab.Node) {
	c.t.Helper()
	pid := n.Process().Pid()
	must(c.t, syscall.Kill(pid, syscall.SIGSTOP))
	c.wait(c.seconds(0, 8))
	must(c.t, syscall.Kill(pid, syscall.SIGCONT))
}

// loseRegistry kills both reflectors, which hold the registry: pods start from blocks
// that their nodes have.
func (c *chaos) loseRegistry(*lab.Node) {
	c.t.Helper()
	all := c.lab.Reflectors()
	for _, rr := range all {
		must(c.t, rr.Kill())
	}
	before := c.given()
	c.wait(c.seconds(2, 8))
	if c.given() == before {
		c.t.Error("no pod started while there was no registry")
	}
	for _, rr := range all {
		must(c.t, rr.Start(c.ctx))
	}
	for _, rr := range all {
		must(c.t, rr.WaitReady(c.ctx))
	}
}

// given counts the addresses that were given.
func (c *chaos) given() (sum int) {
	for _, k := range c.crash {
		sum += k.given()
	}
	return sum
}

// tor is one of the ToRs of a node's rack.
func (c *chaos) tor(n *lab.Node) *lab.ToR { return c.lab.Racks[n.Rack-1].ToRs[c.rnd.IntN(2)] }

// cutToR takes all cables off a ToR: what went through it is lost until BFD has noticed
// at nodes and ToRs, and nothing when it returns.
func (c *chaos) cutToR(n *lab.Node) {
	c.t.Helper()
	tor := c.tor(n)
	c.losing("death of "+tor.Name, between(n.Rack), chaosDead+chaosSwitch+chaosBusy, func() {
		for _, dev := range []string{"rack", "core"} {
			must(c.t, tor.NS.SetLink(dev, false))
		}
	})
	c.wait(c.seconds(2, 8))
	for _, dev := range []string{"core", "rack"} {
		must(c.t, tor.NS.SetLink(dev, true))
	}
}

// restartToR kills a ToR's program, for longer than BFD takes or less, and starts it:
// BIRD begins with an empty table, and its kernel has no way to the other rack until the
// neighbours have told it. Not both at once: the BIRDs of the other rack would take the
// death of BFD for that of the ToRs.
func (c *chaos) restartToR(n *lab.Node) {
	c.t.Helper()
	tor := c.tor(n)
	must(c.t, tor.Kill())
	c.wait(c.seconds(0, 5))
	c.losing("start of "+tor.Name, between(n.Rack), chaosReturn, func() { must(c.t, tor.Start(c.ctx)) })
}

// cutNode pulls a node's cable.
func (c *chaos) cutNode(n *lab.Node) {
	c.t.Helper()
	rack := c.lab.Racks[n.Rack-1]
	c.losing(n.Name+" cut off", of(n), chaosReturn, func() {
		must(c.t, rack.Switch.SetLink(n.Name, false))
		c.wait(c.seconds(0, 6))
		must(c.t, rack.Switch.SetLink(n.Name, true))
	})
}

// cutRack takes the ToRs of a rack off the others.
func (c *chaos) cutRack(n *lab.Node) {
	c.t.Helper()
	rack := c.lab.Racks[n.Rack-1]
	c.losing(fmt.Sprintf("rack %d cut off", rack.Number), between(rack.Number), chaosReturn, func() {
		for _, tor := range rack.ToRs {
			must(c.t, tor.NS.SetLink("core", false))
		}
		c.wait(c.seconds(0, 6))
		for _, tor := range rack.ToRs {
			must(c.t, tor.NS.SetLink("core", true))
		}
	})
}

// fillDisk leaves no byte in a node's state folder for a while; a start needs none.
func (c *chaos) fillDisk(n *lab.Node) {
	c.t.Helper()
	path := filepath.Join(n.StateDir(), "filler")
	must(c.t, os.WriteFile(path, nil, fs.FileMode(0o600)))
	err := os.WriteFile(path, make([]byte, chaosState), 0o600)
	if err == nil {
		c.t.Fatal("the disk of the state folder is larger than the lab made it")
	}
	c.wait(c.seconds(0, 3))
	if c.rnd.IntN(2) == 0 {
		c.restart(n, n.Kill, func() {})
	}
	must(c.t, os.Remove(path))
}

func (c *chaos) deleteDatabase(n *lab.Node) {
	c.t.Helper()
	c.renewed[n] = true
	must(c.t, os.Remove(c.database(n)))
}

// restore puts an older copy in the place of a database. A copy from before the database
// was lost is that of another machine, as the registry sees it: it gets the blocks once
// the one that it replaces has been silent for two periods.
func (c *chaos) restore(n *lab.Node) {
	c.t.Helper()
	do := func() {
		c.restart(n, n.Kill, func() {
			text, err := os.ReadFile(c.copies[n][c.rnd.IntN(len(c.copies[n]))])
			must(c.t, err)
			must(c.t, os.WriteFile(c.database(n), text, 0o600))
		})
	}
	if c.renewed[n] {
		c.losing("an old machine's database on "+n.Name, of(n), labtest.Back, do)
	} else {
		do()
	}
}

// truncate cuts a database short. The agent refuses it, and repairs it when it is asked
// to.
func (c *chaos) truncate(n *lab.Node) {
	c.t.Helper()
	must(c.t, n.Kill())
	must(c.t, os.Truncate(c.database(n), c.rnd.Int64N(usedAlways)))
	must(c.t, n.Start(c.ctx))
	code, err := n.Process().Wait(c.ctx)
	must(c.t, err)
	if log := n.Process().Tail(3); code == 0 || !strings.Contains(log, "--repair-database") {
		c.t.Errorf("an agent with a database that is cut short ends with code %d and\n%s", code, log)
	}
	c.renewed[n] = true
	n.Args = []string{"--repair-database"}
	must(c.t, n.Start(c.ctx))
	n.Args = nil
	must(c.t, n.WaitReady(c.ctx))
	left, err := filepath.Glob(c.database(n) + ".corrupt-*")
	must(c.t, err)
	for _, path := range left { // the disk is small
		must(c.t, os.Remove(path))
	}
}

// deleteTunnels removes a node's tunnel devices.
func (c *chaos) deleteTunnels(n *lab.Node) {
	c.t.Helper()
	c.losing("tunnels deleted", of(n), labtest.Back, func() {
		devices, err := n.NS.Devices("onlink-")
		must(c.t, err)
		if len(devices) == 0 {
			c.t.Error("a node without a tunnel")
		}
		for _, d := range devices {
			must(c.t, n.NS.DeleteLink(d))
		}
	})
}

// lossy drops every fifth packet of a node on the wire.
func (c *chaos) lossy(n *lab.Node) {
	c.t.Helper()
	on := c.lab.Racks[n.Rack-1].Switch
	nft := func(command string) {
		must(c.t, on.Do(func() error {
			if text, err := exec.CommandContext(c.ctx, "nft", command).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", command, err, text)
			}
			return nil
		}))
	}
	c.losing("lossy wire of "+n.Name, of(n), chaosReturn, func() {
		nft("add table bridge chaos; add chain bridge chaos c { type filter hook forward priority 0; }; add rule bridge chaos c iifname " + n.Name + " numgen random mod 5 == 0 drop")
		c.wait(c.seconds(1, 6))
		nft("delete table bridge chaos")
	})
}
