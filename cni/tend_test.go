package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/internal/ours"
)

// TestTend damages the host end of a running pod as another program may: the pod
// is reached again at both addresses, CHECK finds no difference, and Problems
// names the fault.
func TestTend(t *testing.T) {
	tests := []struct {
		name string
		harm func() error // run in the node's namespace
		want string
	}{
		{"set down", func() error { return netlink.LinkSetDown(link(testDevice)) }, "was set down"},
		{"taken out of its group", func() error { return netlink.LinkSetGroup(link(testDevice), 5) }, "was put into group 5"},
		{"taken out of service by hand", func() error {
			return errors.Join(netlink.LinkSetGroup(link(testDevice), 0), netlink.LinkSetDown(link(testDevice)))
		}, "was put into group 0"},
		{"other alias", func() error { return netlink.LinkSetAlias(link(testDevice), "mine") }, "was given the alias \"mine\""},
		{"other alias, and down", func() error {
			return errors.Join(netlink.LinkSetAlias(link(testDevice), "mine"), netlink.LinkSetDown(link(testDevice)))
		}, "was set down"},
		{"renamed", func() error {
			return errors.Join(netlink.LinkSetDown(link(testDevice)), netlink.LinkSetName(link(testDevice), "mine0"), netlink.LinkSetUp(link("mine0")))
		}, "was renamed to mine0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.ipam.set(func() { n.ipam.ipv6 = true })
			n.hostAddress("10.0.0.1/32", "fd00::1/128")
			c := add(pod)
			// Only the interface in the pod holds a MAC address of the runtime's choice.
			c.conf = map[string]any{"runtimeConfig": map[string]any{"mac": "02:00:00:00:00:07"}}
			check := c.as("CHECK")
			check.conf = withPrev(t, c.conf, n.ok(c))
			n.space.do(t, tt.harm)
			n.server.Look()
			eventually(t, func() error {
				if text := strings.Join(n.server.Problems(), "\n"); !strings.Contains(text, "pod default/web-0: its host end "+testDevice+" "+tt.want+" by another program") {
					return fmt.Errorf("problems are %q", text)
				}
				return nil
			})
			if got := n.server.Stats().Mended; got != 1 {
				t.Errorf("mended %d times, want once", got)
			}
			if g := n.attrs(testDevice).Group; g != ours.PodServing {
				t.Errorf("group %#x, want %#x", g, ours.PodServing)
			}
			n.ok(check)
			for _, addr := range []string{"10.65.0.1", "fd00:65::1"} {
				pod.echo(t, addr)
				n.space.ping(t, addr, 100)
			}
			n.ok(c.as("DEL"))
			n.clean()
		})
	}
}

// TestTendGone: a fault that cannot be mended is reported until it is gone.
func TestTendGone(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	n.space.do(t, func() error { return netlink.LinkDel(link(testDevice)) })
	n.server.Look()
	eventually(t, func() error {
		if text := strings.Join(n.server.Problems(), "\n"); !strings.Contains(text, testDevice+" is gone: the pod has no network: delete it") {
			return fmt.Errorf("problems are %q", text)
		}
		return nil
	})
	n.ok(add(pod).as("DEL"))
	n.server.Look()
	eventually(t, func() error {
		if p := n.server.Problems(); len(p) > 0 {
			return fmt.Errorf("problems are %q after DEL", p)
		}
		return nil
	})
	n.clean()
}

// TestTendEnded leaves the host ends alone that DEL took out of service.
func TestTendEnded(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	block := make(chan struct{})
	n.ipam.set(func() { n.ipam.releasing = func(Attachment) error { <-block; return nil } })
	n.ok(add(pod).as("DEL"))
	if err := n.server.tender.tendAll(t.Context()); err != nil {
		t.Error(err)
	}
	close(block)
	n.clean()
	if got, p := n.server.Stats().Mended, n.server.Problems(); got != 0 || len(p) != 0 {
		t.Errorf("mended %d, problems %q of a pod that ended", got, p)
	}
}
