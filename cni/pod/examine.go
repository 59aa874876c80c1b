package pod

import (
	"bytes"
	"context"
	"net"

	"onlink/dump"
	"onlink/internal/rtnl"
)

// Examine is [Host.Check] for a wiring of which only the attachment and the
// addresses are known. A MAC address that the runtime chose is taken as right: the
// one that the pod has, when the host's permanent neighbour entries, which ADD
// wrote, have it too. mac is that of the pod's end; nil: there is none.
func (h *Host) Examine(ctx context.Context, w *Wiring) (found []string, mac net.HardwareAddr, err error) {
	err = h.wiring.do(ctx, func(th *thread) error {
		link, err := w.podLink(th)
		if err != nil {
			return err
		}
		if link != nil {
			mac = bytes.Clone(link.Attrs().HardwareAddr)
			entry, err := w.entryMAC(th)
			if err != nil {
				return err
			}
			if entry != nil && bytes.Equal(entry, mac) {
				w.MAC = mac
			}
		}
		found, err = w.check(th)
		return err
	})
	return found, mac, err
}

// entryMAC returns the MAC address in the host's neighbour entry of the pod's
// first address; nil: there is none.
func (w *Wiring) entryMAC(th *thread) (net.HardwareAddr, error) {
	link, err := findLink(th.links, w.hostDevice)
	if err != nil || link == nil || len(w.Addresses) == 0 {
		return nil, err
	}
	first := w.Addresses[0]
	list, err := dump.Neighbours(th.links, link.Attrs().Index, int(rtnl.Family(first)))
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n.IP.Equal(first.AsSlice()) {
			return n.HardwareAddr, nil
		}
	}
	return nil, nil
}
