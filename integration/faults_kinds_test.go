package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// fault is one kind of harm that TestFaults does to a node, and what ends it.
type fault struct {
	name    string
	servers bool // also to those that serve the registry
	do      func(*lab.Node)
}

// usedAlways is how much of the shortest database is in use, in bytes: what
// follows may be room that was never used, and its loss none.
const usedAlways = 16 << 10

func (f *faultSite) faults() []fault {
	return []fault{
		{"kill", true, func(n *lab.Node) { f.restart(n, func() {}) }},
		{"partition", true, f.partition},
		{"full disk", true, f.fullDisk},
		{"deleted database", true, func(n *lab.Node) { f.restart(n, func() { f.remove(n) }) }},
		{"database deleted while in use", true, func(n *lab.Node) {
			f.remove(n)
			f.busy(20)
			f.restart(n, func() {})
		}},
		{"truncated database", true, f.truncated},
		{"older database", true, func(n *lab.Node) { f.restart(n, func() { f.restore(n, f.database(n)) }) }},
		{"cloned database", false, func(n *lab.Node) { f.impostor(n, true) }},
		{"same name", false, func(n *lab.Node) { f.impostor(n, false) }},
		{"lost registry", false, f.lostRegistry},
	}
}

func (f *faultSite) database(n *lab.Node) string { return filepath.Join(n.StateDir(), "onlink.db") }

func (f *faultSite) remove(n *lab.Node) {
	f.t.Helper()
	must(f.t, os.Remove(f.database(n)))
}

// restart kills a node's agent amid its work, has something done, and starts
// it.
func (f *faultSite) restart(n *lab.Node, change func()) {
	f.t.Helper()
	f.busy(10)
	f.kill(n)
	change()
	f.start(n)
}

// restore puts one of a node's older copies in the place of a database.
func (f *faultSite) restore(n *lab.Node, file string) {
	f.t.Helper()
	all := f.copies[n]
	text, err := os.ReadFile(all[f.rnd.IntN(len(all))])
	must(f.t, err)
	must(f.t, os.WriteFile(file, text, 0o600))
}

// partition takes a node off the network, for less than the hold time or more.
func (f *faultSite) partition(n *lab.Node) {
	f.t.Helper()
	must(f.t, n.NS.SetLink("eth0", false))
	f.busy(40)
	if f.rnd.IntN(3) == 0 {
		wait := time.NewTimer(faultHold + time.Second) // longer than the session lives
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-f.ctx.Done():
		}
	}
	must(f.t, n.NS.SetLink("eth0", true))
	must(f.t, n.NS.SetRoute(labtest.DefaultRoute, lab.Gateway{Via: f.lab.Racks[0].ToRs[0].Addr, Dev: "eth0"})) // went with the link
}

// fullDisk leaves no byte in a node's state folder.
func (f *faultSite) fullDisk(n *lab.Node) {
	f.t.Helper()
	path := filepath.Join(n.StateDir(), "filler")
	file, err := os.Create(path)
	must(f.t, err)
	defer file.Close()
	buf := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(buf)
	}
	if !errors.Is(err, unix.ENOSPC) {
		f.t.Fatalf("fill the disk: %v", err)
	}
	f.busy(40)
	if f.rnd.IntN(2) == 0 { // a start needs no space
		f.restart(n, func() {})
		f.busy(10)
	}
	must(f.t, os.Remove(path))
}

// truncated cuts a database short. The agent refuses it, and repairs it when it
// is told to.
func (f *faultSite) truncated(n *lab.Node) {
	f.t.Helper()
	f.busy(10)
	f.kill(n)
	must(f.t, os.Truncate(f.database(n), f.rnd.Int64N(usedAlways)))
	f.start(n)
	code, err := f.running[n].Wait(f.ctx)
	must(f.t, err)
	if log := f.running[n].Tail(3); code == 0 || !strings.Contains(log, "--repair-database") {
		f.t.Errorf("an agent with a database that is cut short ends with code %d and\n%s", code, log)
	}
	f.start(n, "--repair-database")
	left, err := filepath.Glob(f.database(n) + ".corrupt-*")
	must(f.t, err)
	for _, path := range left { // the disk is small
		must(f.t, os.Remove(path))
	}
}

// impostor starts another machine with the name of a node that lives, with a
// copy of its database or its own: it gives nothing out.
func (f *faultSite) impostor(n *lab.Node, cloned bool) {
	f.t.Helper()
	f.names[0] = n.Name
	must(f.t, os.RemoveAll(f.spare.StateDir()))
	must(f.t, os.MkdirAll(f.spare.StateDir(), 0o755))
	if cloned {
		f.restore(n, f.database(f.spare))
	}
	f.start(f.spare)
	w := &crashWorker{crash: f.crash[f.spare], id: 99, made: 1000 * f.harms["cloned database"], rnd: f.rnd}
	for i := range 5 {
		p := &crashPod{id: fmt.Sprintf("%064x", f.rnd.Uint64()), path: filepath.Join(w.dir, fmt.Sprint("impostor", i))}
		must(f.t, labtest.MakeNetns(p.path))
		if addrs, err := w.request(f.ctx, w.client.Add, p); err == nil {
			f.t.Errorf("a second machine with the name of %s gave %v to a pod", n.Name, addrs)
			w.claim(p.id, addrs)
		}
		_, err := w.request(f.ctx, w.client.Del, p)
		must(f.t, err)
		w.drop(p)
	}
	if got := f.announced(f.ctx, f.spare); len(got) > 0 {
		f.t.Errorf("a second machine with the name of %s announces %v", n.Name, got)
	}
	f.kill(f.spare)
}

// lostRegistry takes the registry away for a while; where agents serve it, all
// of its files are lost as well.
func (f *faultSite) lostRegistry(*lab.Node) {
	f.t.Helper()
	f.tc.close(f.registrySite)
	f.busy(40)
	for _, n := range f.servers {
		f.remove(n)
	}
	f.tc.open(f.registrySite)
}
