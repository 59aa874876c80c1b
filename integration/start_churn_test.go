package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestStartAmidChurn starts an agent again and again on a node with many
// devices while another program makes and removes some: the kernel then calls
// many of its lists inconsistent, and none may end a start.
func TestStartAmidChurn(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("amid"))
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	pair := func(name string) netlink.Link {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	}
	for i := range 80 {
		must(t, n.NS.Link.LinkAdd(pair(fmt.Sprintf("v%d", i))))
	}
	stop, stopped := make(chan struct{}), make(chan error, 2)
	for k := range cap(stopped) {
		var h *netlink.Handle
		must(t, n.NS.Do(func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err }))
		defer h.Close()
		link := pair(fmt.Sprintf("x%d", k))
		go func() {
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				if err := errors.Join(h.LinkAdd(link), h.LinkDel(link)); err != nil {
					stopped <- err
					return
				}
			}
		}()
	}
	defer func() {
		close(stop)
		for range cap(stopped) {
			must(t, <-stopped)
		}
	}()
	for range 6 {
		must(t, n.Start(ctx))
		must(t, lab.Eventually(ctx, 20*time.Second, "the agent to answer", func() error {
			if n.Process().Exited() {
				return errors.New("it has ended")
			}
			_, err := n.Status(ctx)
			return err
		}))
		must(t, n.Stop())
	}
}
