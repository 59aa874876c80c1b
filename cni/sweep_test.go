package cni

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/cni/pod"
)

// TestSweep frees the attachments with neither namespace nor veth, and no others.
func TestSweep(t *testing.T) {
	tests := []struct {
		name string
		end  func(t *testing.T, n *node, pod *space) // the end of the pod
		want bool                                    // the attachment is freed
	}{
		{"the pod lives", func(*testing.T, *node, *space) {}, false},
		{"the pod has ended", func(t *testing.T, n *node, pod *space) {
			t.Helper()
			pod.close()
			eventually(t, func() error { return n.wantNoDevice() })
		}, true},
		{"the namespace cannot be seen, its veth can", func(_ *testing.T, n *node, _ *space) {
			n.ipam.set(func() {
				a := n.ipam.owners[testID+"/eth0"]
				a.Netns = "/nonexistent/netns"
				n.ipam.owners[a.Key()] = a
			})
		}, false},
		{"the veth is gone, the namespace lives", func(t *testing.T, n *node, _ *space) {
			t.Helper()
			n.space.do(t, func() error { return netlink.LinkDel(link(testDevice)) })
		}, false},
		{"recovered, and ended", func(t *testing.T, n *node, pod *space) {
			t.Helper()
			n.ipam.set(func() { n.ipam.owners[testID+"/eth0"] = Attachment{ContainerID: testID, IfName: "eth0"} })
			pod.close()
			eventually(t, func() error { return n.wantNoDevice() })
		}, true},
		{"recovered, and lives", func(_ *testing.T, n *node, _ *space) {
			n.ipam.set(func() { n.ipam.owners[testID+"/eth0"] = Attachment{ContainerID: testID, IfName: "eth0"} })
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.ok(add(pod))
			tt.end(t, n, pod)
			freed, err := n.server.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := len(freed) == 1; got != tt.want {
				t.Fatalf("freed %v, want it freed: %v", freed, tt.want)
			}
			_, held := n.ipam.Lookup(Attachment{ContainerID: testID, IfName: "eth0"})
			if held == tt.want || (n.routes.len() == 0) != tt.want {
				t.Errorf("lease held: %v, routes: %d", held, n.routes.len())
			}
		})
	}
}

// wantNoDevice returns an error while the pod's host device is there.
func (n *node) wantNoDevice() error {
	if d := n.devices(); len(d) > 0 {
		return pod.ErrElsewhere
	}
	return nil
}

// TestWired reads a pod back from the kernel, as after the loss of a database,
// and then evicts it.
func TestWired(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.ipv6 = true
	n.ok(add(pod))
	var got []wiredPod
	var addrs []netip.Addr
	n.space.do(t, func() (err error) {
		if got, err = listWired(); err != nil || len(got) != 1 {
			return err
		}
		addrs, err = got[0].Addresses(unix.RT_TABLE_MAIN)
		return err
	})
	if len(got) != 1 {
		t.Fatalf("got %+v, want one", got)
	}
	w := got[0]
	if w.ContainerID != testID || w.IfName != "eth0" || w.Namespace != "default" || w.Pod != "web-0" || w.HostDevice != testDevice {
		t.Errorf("got %+v", w)
	}
	lease, _ := n.ipam.Lookup(w.Attachment)
	slices.SortFunc(addrs, netip.Addr.Compare)
	if !slices.Equal(addrs, lease.Addresses) {
		t.Errorf("addresses %v, want %v", addrs, lease.Addresses)
	}
	if err := n.server.Evict(t.Context(), w.Attachment); err != nil {
		t.Fatal(err)
	}
	n.clean()
}
