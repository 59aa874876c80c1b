package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// parameters of a tunnel device, in the order they are set.
//
// rp_filter: packets come in from every node, also from those whose way back
// is direct, so the check is loose (RFC 3704 section 2.4). addr_gen_mode: no
// link-local address; routes name the far end, nobody speaks to the device.
var parameters = []struct{ path, value string }{
	{"/proc/sys/net/ipv4/conf/%s/rp_filter", "2"},
	{"/proc/sys/net/ipv6/conf/%s/addr_gen_mode", "1"},
}

// setParameters sets what is not yet so. A kernel without IPv6 has no such
// file. The files are those of the calling thread's network namespace.
func setParameters(dev string) error {
	for _, p := range parameters {
		path := fmt.Sprintf(p.path, dev)
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read parameter: %w", err)
		}
		if strings.TrimSpace(string(now)) == p.value {
			continue
		}
		if err := os.WriteFile(path, []byte(p.value), 0o644); err != nil {
			return fmt.Errorf("set parameter: %w", err)
		}
	}
	return nil
}
