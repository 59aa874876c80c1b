package tunnel

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLost: a packet to a node without an entry is lost, and counted at the device;
// devices of others are not looked at.
func TestLost(t *testing.T) {
	b, d := vxlanBed(t, local4)
	lost := func() (n uint64, devices int) {
		all, err := Lost()
		b.do(err)
		for _, l := range all {
			if l.Device == d.Name {
				n += l.Sent.Dropped + l.Sent.Errors
			}
		}
		return n, len(all)
	}
	before, devices := lost()
	if devices != 1 {
		t.Fatalf("%d devices, want 1", devices)
	}
	// A frame to a MAC address without a forwarding entry: the device floods to nobody.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	b.do(err)
	defer unix.Close(fd)
	frame := append([]byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0}, make([]byte, 46)...)
	to := &unix.SockaddrLinklayer{Ifindex: b.link(d.Name).Attrs().Index}
	for end := time.Now().Add(30 * time.Second); ; {
		b.do(unix.Sendto(fd, frame, 0, to))
		if now, _ := lost(); now > before {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no loss was counted")
		}
	}
	b.do(b.h.LinkSetAlias(b.link(d.Name), "mine"))
	if _, devices := lost(); devices != 0 {
		t.Errorf("%d devices, want none: it is not onlink's", devices)
	}
}
