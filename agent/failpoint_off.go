//go:build !failpoints

package agent

import "onlink/cni"

// withFailpoints is the place where tests make a build of their own die: see
// failpoint_on.go.
func withFailpoints(i cni.IPAM) cni.IPAM { return i }
