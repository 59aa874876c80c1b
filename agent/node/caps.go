package node

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckCapabilities checks for the capabilities that the agent needs
// (capabilities(7)), so that a missing one is one line at start and not a failing
// system call later.
func CheckCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	need := []struct {
		bit  int
		name string
		why  string
	}{
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to write routes and devices"},
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to enter a pod's network namespace"},
		{unix.CAP_NET_RAW, "CAP_NET_RAW", "to bind sockets to devices"},
	}
	var missing []string
	for _, n := range need {
		if data[n.bit/32].Effective&(1<<(n.bit%32)) == 0 {
			missing = append(missing, n.name+" ("+n.why+")")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; run as root or set AmbientCapabilities in the unit", errCapability, strings.Join(missing, ", "))
}

// errCapability is returned when the process lacks a capability(7) that the
// agent cannot work without.
var errCapability = errors.New("missing capability")
