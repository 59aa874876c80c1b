//go:build failpoints

package pods

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"

	"onlink/cni"
)

// failpointsEnv sets where the agent kills itself and how often, as in
// "assign.before=0.01,assign.after=0.02". Only builds with the tag failpoints,
// which the crash test makes, read it.
const failpointsEnv = "ONLINK_FAILPOINTS"

// failpoints dies with SIGKILL before or after a commit, as a machine would.
type failpoints struct {
	cni.IPAM
	chance map[string]float64
}

func WithFailpoints(i cni.IPAM) cni.IPAM {
	f := failpoints{IPAM: i, chance: map[string]float64{}}
	for _, pair := range strings.Split(os.Getenv(failpointsEnv), ",") {
		name, text, _ := strings.Cut(pair, "=")
		if p, err := strconv.ParseFloat(text, 64); err == nil {
			f.chance[name] = p
		}
	}
	return f
}

func (f failpoints) at(name string) {
	if rand.Float64() < f.chance[name] {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing runs after it
	}
}

// Assign implements cni.IPAM.
func (f failpoints) Assign(ctx context.Context, a cni.Attachment, ask cni.Ask) (cni.Lease, error) {
	f.at("assign.before")
	lease, err := f.IPAM.Assign(ctx, a, ask)
	f.at("assign.after") // committed; no veth, no answer
	return lease, err
}

// Release implements cni.IPAM.
func (f failpoints) Release(ctx context.Context, a cni.Attachment) error {
	f.at("release.before") // the veth is removed, the address is not free
	err := f.IPAM.Release(ctx, a)
	f.at("release.after") // committed; no answer
	return err
}
