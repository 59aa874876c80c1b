package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/internal/ours"
)

// setGroup puts a device of the node into an interface group.
func (n *node) setGroup(device string, group uint32) {
	n.t.Helper()
	n.space.do(n.t, func() error { return netlink.LinkSetGroup(link(device), int(group)) })
}

// attrs returns the kernel's attributes of a device of the node.
func (n *node) attrs(device string) (at netlink.LinkAttrs) {
	n.t.Helper()
	n.space.do(n.t, func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("look up %s: %w", device, err)
		}
		at = *l.Attrs()
		return nil
	})
	return at
}

// TestMark: a pod's host end has its group from ADD on, after any change of its
// alias; an agent gives it at its start to those of a former version.
func TestMark(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	if g := n.attrs(testDevice).Group; g != ours.PodServing {
		t.Errorf("group %#x after ADD, want %#x", g, ours.PodServing)
	}
	n.stop()
	n.setGroup(testDevice, 0)
	n.space.do(t, func() error { return adopt(nil) })
	if g := n.attrs(testDevice).Group; g != ours.PodServing {
		t.Errorf("group %#x after Adopt, want %#x", g, ours.PodServing)
	}
	n.space.do(t, func() error { return netlink.LinkSetAlias(link(testDevice), "mine") })
	n.start()
	n.ok(add(pod).as("DEL"))
	n.clean()
}

// TestAdoptBare: a veth without any mark is a killed ADD's where a known
// attachment has its name, and else foreign.
func TestAdoptBare(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.stop()
	a := Attachment{ContainerID: testID, IfName: "eth0", Netns: pod.path, Namespace: "default", Pod: "web-0"}
	if _, err := n.ipam.Assign(t.Context(), a, Ask{}); err != nil {
		t.Fatal(err)
	}
	veth(t, n, pod, testDevice)
	foreign := hostDevice("another", "eth0")
	veth(t, n, newSpace(t), foreign)
	n.start()
	n.ok(call{verb: "STATUS"}) // it serves: it has settled
	if at := n.attrs(testDevice); at.Group != ours.PodServing || at.Alias != a.Alias() {
		t.Errorf("group %#x and alias %q, want %#x and %q", at.Group, at.Alias, ours.PodServing, a.Alias())
	}
	if at := n.attrs(foreign); at.Group != 0 || at.Alias != "" {
		t.Errorf("a foreign veth got group %#x and alias %q", at.Group, at.Alias)
	}
	n.ok(add(pod).as("DEL"))
	n.reaped()
	if got := n.devices(); len(got) != 1 || got[0] != foreign {
		t.Errorf("devices %v are left, want the foreign one", got)
	}
}

// TestForeignNameKeepsNoPod ends a pod after another device got its host end's
// name: its address is free, and the device stays.
func TestForeignNameKeepsNoPod(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	n.space.do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = testDevice
		return errors.Join(netlink.LinkDel(link(testDevice)), netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	})
	n.ok(add(pod).as("DEL"))
	if left := n.ipam.Attachments(); len(left) != 0 {
		t.Errorf("leases left: %v", left)
	}
	if n.routes.len() != 0 {
		t.Errorf("routes left: %v", n.routes.pods)
	}
	if o := n.fails(add(pod), 999); !strings.Contains(o.Details, testDevice+" is a bridge") {
		t.Errorf("ADD does not say what is in its way: %s", o.Details)
	}
	if at := n.attrs(testDevice); at.Alias != "" || at.Group != 0 {
		t.Errorf("the foreign device was changed: %+v", at)
	}
}
