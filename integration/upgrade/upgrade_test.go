// Package upgrade takes a lab from the programs of another commit to those under test
// and back. make test-upgrade runs it.
//
//go:debug multipathtcp=0
package upgrade

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// formerVariable names the folder of the other commit's programs.
const formerVariable = "ONLINK_FORMER"

// limit bounds the test: it restarts every node of the lab twice.
const limit = 30 * time.Minute

// TestMain runs nothing without the other programs: make test-upgrade builds them.
func TestMain(m *testing.M) {
	if os.Getenv(formerVariable) == "" {
		fmt.Println("make test-upgrade runs these tests; $" + formerVariable + " names no programs")
		os.Exit(0)
	}
	os.Exit(labtest.Main(m))
}

// roll is a lab that goes from one version to another, node by node.
type roll struct {
	t    *testing.T
	ctx  context.Context // of the whole test
	lab  *lab.Lab
	pods map[string]*lab.Pod // by node
}

// TestUpgrade starts two racks with the former version, replaces it by this one on one
// node after the other, and goes back in the same way, under traffic of both families,
// directly and through the tunnel. Nothing is lost, and no other node and no ToR changes
// a route. Each version checks, frees and adds to what the other one wrote.
func TestUpgrade(t *testing.T) {
	former, ours := os.Getenv(formerVariable), labtest.Bin()
	_, l := labtest.Build(t, lab.Spec{
		Name: "upgrade", DualStack: true, ToR: lab.FRR,
		Pool: lab.Pool{Tunnel: "vxlan", CIDR6: netip.MustParsePrefix("fd44::/48")},
	})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	r := &roll{t: t, ctx: ctx, lab: l, pods: map[string]*lab.Pod{}}
	l.Bin = t.TempDir()
	r.install(former)
	labtest.Must(t, l.StartToRs(ctx))
	labtest.Must(t, l.StartNodes(ctx))
	for _, n := range l.Workers() {
		p, err := n.AddPod(ctx, n.Name+"-pod")
		labtest.Must(t, err)
		r.pods[n.Name] = p
	}
	labtest.Must(t, l.WaitConverged(ctx))
	_, err := l.PingFromToRs(ctx) // they have the blocks
	labtest.Must(t, err)
	for _, step := range []struct{ name, bin string }{{"upgrade", ours}, {"rollback", former}, {"upgrade again", ours}} {
		t.Run(step.name, func(t *testing.T) {
			r.t = t
			r.install(step.bin)
			for _, n := range l.Nodes() {
				r.restart(n, step.bin)
				r.agree()
			}
			r.replacePods(step.name)
		})
	}
}

// install puts all programs of a folder where the lab starts them.
func (r *roll) install(bin string) {
	r.t.Helper()
	for _, name := range []string{"onlinkd", "onlinkctl", "onlink-cni"} {
		labtest.Must(r.t, labtest.ReplaceProgram(bin, r.lab.Bin, name))
	}
}

// restart ends a node's agent as systemd does, and starts the program that is
// installed now.
func (r *roll) restart(victim *lab.Node, bin string) {
	r.t.Helper()
	target, from := r.pods[victim.Name], []*lab.Pod{}
	for _, n := range r.lab.Workers() {
		switch p := r.pods[n.Name]; {
		case n == victim:
		case target == nil: // of a reflector: between the workers
			target = p
		default:
			from = append(from, p)
		}
	}
	stop := labtest.Witness(r.ctx, r.t, r.lab, victim, target, from)
	labtest.Must(r.t, victim.Stop())
	labtest.StartNode(r.ctx, r.t, victim)
	labtest.Must(r.t, r.lab.WaitConverged(r.ctx))
	labtest.Must(r.t, lab.Eventually(r.ctx, labtest.Patience, "everything announced anew", func() error { return labtest.AnnouncedAnew(r.ctx, r.lab, victim) }))
	stop()
	s, err := victim.Status(r.ctx)
	labtest.Must(r.t, err)
	if want := versionOf(r.t, bin); !strings.Contains(want, s.GetVersion()) {
		r.t.Errorf("%s runs %s, want %s", victim.Name, s.GetVersion(), want)
	}
}

// versionOf returns what the agent's program in a folder says of itself.
func versionOf(t *testing.T, bin string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, "onlinkd"), "--version").Output()
	labtest.Must(t, err)
	return string(out)
}

// agree has every agent that runs, of either version, compare its database with its
// kernel and the registry, and the plugin check every pod.
func (r *roll) agree() {
	r.t.Helper()
	for _, n := range r.lab.Workers() {
		out, err := n.Ctl(r.ctx, "ipam", "check")
		if err != nil || out.Code != 0 {
			r.t.Errorf("%s: ipam check: %v\n%s%s", n.Name, err, out.Stdout, out.Stderr)
		}
		labtest.Must(r.t, r.pods[n.Name].Check(r.ctx))
	}
}

// replacePods deletes the pods that the other version made and adds new ones, which
// reach each other: no address is assigned twice.
func (r *roll) replacePods(name string) {
	r.t.Helper()
	for _, n := range r.lab.Workers() {
		p, err := n.AddPod(r.ctx, n.Name+"-"+strings.ReplaceAll(name, " ", "-"))
		labtest.Must(r.t, err)
		for _, a := range p.Addrs {
			for _, other := range r.lab.Pods() {
				for _, b := range other.Addrs {
					if a == b && other != p {
						r.t.Errorf("%s of %s is also that of %s", a, p.Name, other.Name)
					}
				}
			}
		}
		labtest.Must(r.t, r.pods[n.Name].Delete(r.ctx))
		r.pods[n.Name] = p
	}
	labtest.Must(r.t, r.lab.WaitConverged(r.ctx))
	_, err := r.lab.PingPods(r.ctx, 1)
	labtest.Must(r.t, err)
}
