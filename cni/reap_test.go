package cni

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"onlink/internal/ours"
)

// onRelease makes IPAM call f before it releases.
func (n *node) onRelease(f func(Attachment) error) {
	n.ipam.set(func() { n.ipam.releasing = f })
}

// TestDelGroups ends many pods at once: every DEL is answered before its veth
// is removed, and no address is free before its veth is gone.
func TestDelGroups(t *testing.T) {
	n := newNode(t)
	const pods = 40 // more than one group
	var spaces []*space
	for i := range pods {
		s := newSpace(t)
		spaces = append(spaces, s)
		n.ok(call{verb: "ADD", id: fmt.Sprintf("pod-%d", i), ifname: "eth0", netns: s.path})
	}
	n.onRelease(func(a Attachment) error {
		return n.space.try(func() error {
			if _, err := netlink.LinkByName(hostDevice(a.ContainerID, a.IfName)); err == nil {
				t.Errorf("address of %s is released while its veth is there", a.ContainerID)
			}
			return nil
		})
	})
	var all sync.WaitGroup
	for i := range pods {
		all.Go(func() {
			if code, out := n.run(call{verb: "DEL", id: fmt.Sprintf("pod-%d", i), ifname: "eth0", netns: spaces[i].path}); code != 0 {
				t.Errorf("DEL: exit code %d: %s", code, out)
			}
		})
	}
	all.Wait()
	n.clean()
	if pending, reaped := n.server.pods.reaper.Counts(); pending != 0 || reaped != pods {
		t.Errorf("%d pending, %d reaped, want 0 and %d", pending, reaped, pods)
	}
}

// TestDelCutsOff holds the removal up: the pod must be without any connection
// as soon as DEL is answered, and its address must not be free.
func TestDelCutsOff(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.hostAddress("10.0.0.1/32")
	n.ok(add(pod))
	free := make(chan struct{})
	n.onRelease(func(Attachment) error { <-free; return nil })
	defer n.onRelease(nil)
	n.ok(add(pod).as("DEL"))
	if n.routes.len() != 0 {
		t.Errorf("the learn loop still routes %v", n.routes.pods)
	}
	n.space.do(t, func() error {
		if l, err := netlink.LinkByName(testDevice); err == nil && l.Attrs().OperState == netlink.OperUp {
			t.Errorf("%s is up", testDevice)
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: ours.Protocol}, netlink.RT_FILTER_PROTOCOL)
		if len(routes) != 0 {
			t.Errorf("kernel routes left: %v", routes)
		}
		return err
	})
	if _, held := n.ipam.Lookup(Attachment{ContainerID: testID, IfName: "eth0"}); !held {
		t.Error("the address is free before the release")
	}
	n.ok(add(pod).as("DEL")) // again: nothing to do, and no wait
	n.fails(add(pod).as("CHECK"), 100)
	close(free)
	n.clean()
}

// TestAddAfterDel connects a pod again the moment DEL is answered: under the
// same name, and under another one.
func TestAddAfterDel(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.hostAddress("10.0.0.1/32")
	n.space.echo(t, "10.0.0.1")
	for i := range 10 {
		c := call{verb: "ADD", id: fmt.Sprintf("pod-%d", i/2), ifname: "eth0", netns: pod.path}
		n.ok(c)
		pod.ping(t, "10.0.0.1", 100)
		n.ok(c.as("DEL"))
	}
	n.clean()
}

// TestReapRetry lets IPAM refuse a release: the reaper tries again.
func TestReapRetry(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	var once sync.Once
	n.onRelease(func(Attachment) (err error) {
		once.Do(func() { err = errors.New("disk is full") })
		return err
	})
	n.ok(add(pod).as("DEL"))
	n.clean()
}

// TestSettle starts an agent on the possible remains of a killed one.
func TestSettle(t *testing.T) {
	attachment := Attachment{ContainerID: testID, IfName: "eth0"}
	tests := []struct {
		name  string
		leave func(t *testing.T, n *node, pod *space) // the killed agent's steps of a DEL or ADD
		kept  bool
	}{
		{name: "a connected pod", leave: func(*testing.T, *node, *space) {}, kept: true},
		{name: "killed before the veth was removed", leave: func(t *testing.T, n *node, _ *space) {
			t.Helper()
			n.space.do(t, func() error {
				return errors.Join(netlink.LinkSetDown(link(testDevice)), netlink.LinkSetGroup(link(testDevice), ours.PodEnded))
			})
		}},
		{name: "killed while the veth was removed", leave: func(t *testing.T, n *node, _ *space) {
			t.Helper()
			n.space.do(t, func() error { return netlink.LinkSetGroup(link(testDevice), ours.PodRemoving) })
		}},
		{name: "killed before the release", leave: func(t *testing.T, n *node, _ *space) {
			t.Helper()
			n.space.do(t, func() error { return netlink.LinkDel(link(testDevice)) })
		}},
		{name: "the pod has an interface of the name, its host end is hidden", leave: func(t *testing.T, n *node, pod *space) {
			t.Helper()
			n.space.do(t, func() error { return netlink.LinkDel(link(testDevice)) })
			pod.do(t, func() error {
				return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "other"})
			})
		}, kept: true},
		{name: "a namespace that cannot be looked at", leave: func(t *testing.T, n *node, _ *space) {
			t.Helper()
			n.space.do(t, func() error { return netlink.LinkDel(link(testDevice)) })
			n.ipam.set(func() {
				n.ipam.owners[attachment.Key()] = Attachment{ContainerID: testID, IfName: "eth0", Netns: n.space.path}
			})
		}, kept: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.ok(add(pod))
			n.stop()
			tt.leave(t, n, pod)
			n.start()
			n.ok(call{verb: "STATUS"}) // served: it has settled
			n.reaped()
			_, held := n.ipam.Lookup(attachment)
			if held != tt.kept {
				t.Errorf("lease is held: %v, want %v", held, tt.kept)
			}
			if !tt.kept {
				n.clean()
			}
		})
	}
}
