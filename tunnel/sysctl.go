package tunnel

import (
	"errors"
	"fmt"
	"io/fs"

	"onlink/sysctl"
)

// parameters of a tunnel device, in the order they are set.
//
// rp_filter: packets arrive from every node, also from those whose way back is
// direct, so the check is loose (RFC 3704 section 2.4). addr_gen_mode: no
// link-local address; routes name the far end, and no packet is for the device.
var parameters = []struct{ name, value string }{
	{"net/ipv4/conf/%s/rp_filter", "2"},
	{"net/ipv6/conf/%s/addr_gen_mode", "1"},
}

// setParameters sets the parameters that differ. A kernel without IPv6 lacks
// some files. The files are those of the calling thread's network namespace.
func setParameters(dev string) error {
	for _, p := range parameters {
		err := sysctl.Set(fmt.Sprintf(p.name, dev), p.value)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("set parameter: %w", err)
		}
	}
	return nil
}
