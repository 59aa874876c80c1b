package cni

import (
	"errors"
	"strings"
	"testing"
	"time"

	"onlink/cni/pod"
	"onlink/internal/ours"
)

var errNoTable = errors.New("no such table")

// TestTrouble: a node on which no pod can be connected reports that in STATUS and
// in Problems, from its start or a failed ADD on, until it is mended.
func TestTrouble(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	s := &brokenSenders{}
	n.senders = s
	s.set(errNoTable, nil)
	n.stop()
	n.start()
	failing := func() {
		t.Helper()
		if o := n.fails(call{verb: "STATUS"}, 50); !strings.Contains(o.Details, "a pod cannot be connected on this node: allow MAC address") || !strings.Contains(o.Details, errNoTable.Error()) {
			t.Errorf("STATUS says %q", o.Details)
		}
		if p := n.server.Problems(); len(p) != 1 || !strings.Contains(p[0], errNoTable.Error()) {
			t.Errorf("problems are %q", p)
		}
	}
	well := func() error {
		if err := n.server.Trouble(); err != nil {
			return err
		}
		return nil
	}
	failing()
	s.set(nil, nil)
	n.ok(add(pod)) // it is tried all the same
	eventually(t, well)
	n.ok(call{verb: "STATUS"})

	s.set(errNoTable, nil)
	other := add(newSpace(t))
	other.id = "other"
	n.fails(other, 999)
	eventually(t, func() error {
		if well() == nil {
			return errors.New("an ADD failed, and all is well")
		}
		return nil
	})
	failing()
	s.set(nil, nil)
	eventually(t, well)
	n.ok(add(pod).as("DEL"))
	n.ok(other.as("DEL"))
	n.clean()
}

// TestTroubleOfCalls: an error of the call itself makes no problem of the node.
func TestTroubleOfCalls(t *testing.T) {
	n := newNode(t)
	n.ok(call{verb: "STATUS"})
	for _, err := range []error{ErrConfig, ErrNetns, pod.ErrNameTaken, pod.ErrElsewhere, pod.ErrIfName} {
		n.server.prober.suspect(t.Context(), err)
		if len(n.server.prober.again) > 0 {
			t.Errorf("the self-test is run again for: %v", err)
		}
	}
}

// TestSelfTest: it leaves nothing, passes with and without IPv6, and removes the
// remains of a killed one, but no foreign device.
func TestSelfTest(t *testing.T) {
	n := newNode(t)
	n.ok(call{verb: "STATUS"})
	device := hostDevice(probeID, "eth0")
	veth(t, n, newSpace(t), device)
	n.setGroup(device, ours.PodEnded)
	for _, v6 := range []bool{true, false} {
		n.server.cfg.IPv6 = func() bool { return v6 }
		begin := time.Now()
		if err := n.server.prober.selfTest(t.Context()); err != nil {
			t.Errorf("IPv6 %v: %v", v6, err)
		}
		t.Logf("the self-test took %v", time.Since(begin))
		n.clean()
	}
	veth(t, n, newSpace(t), device)
	if err := n.server.prober.selfTest(t.Context()); !errors.Is(err, pod.ErrNameTaken) {
		t.Errorf("with somebody else's device in the way: %v", err)
	}
	if g := n.attrs(device).Group; g != 0 {
		t.Errorf("somebody else's device is in group %#x", g)
	}
}
