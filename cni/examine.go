package cni

import (
	"context"
	"fmt"
	"net"
)

// Examination is the state of a pod's interface.
type Examination struct {
	Differences []string         // from the interface that ADD made, one line each
	MAC         net.HardwareAddr // of the pod's end; nil: there is none
}

// Examine compares the interface of an attachment with the one that ADD made, as
// CHECK does. The settings that only the runtime's call had are taken as they are:
// MTU, sysctls, a MAC address that the runtime chose.
func (s *Server) Examine(ctx context.Context, a Attachment) (Examination, error) {
	lease, held := s.cfg.IPAM.Lookup(a)
	if !held {
		return Examination{}, fmt.Errorf("examine %s: %w: it has no address", a.Key(), ErrMismatch)
	}
	netns, err := s.pods.openNetns(a.Netns)
	if err != nil {
		return Examination{}, err
	}
	defer netns.Close()
	w := s.pods.wiring(a, lease.Addresses)
	w.NetnsFile = netns
	found, mac, err := s.pods.host.Examine(ctx, w)
	return Examination{Differences: found, MAC: mac}, err
}
