package pods

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"onlink/cni/pod"
	"onlink/ipam"
)

// mtuRetry is the wait before the next attempt to change a pod's MTU.
const mtuRetry = 5 * time.Second

// MTU gives running pods the MTU of new ones when that changes. Path MTU
// discovery would find it too, for each destination by itself, but not for a
// pod's packets to this node.
type MTU struct {
	Log *slog.Logger
	// Now returns the MTU that pods get, in bytes; 0: not known yet. Moved is
	// received from: it may be another.
	Now   func() int
	Moved <-chan struct{}
	Store MTUStore
	// Assignments returns the pods.
	Assignments func() []ipam.Assignment

	host func() (map[string]int, error) // nil: hostMTUs; set by tests
	give func(netns, ifname, hostDevice string, former []int, mtu int) error

	told int                  // the MTU that all pods have but left; 0: none
	left map[ipam.Handle]bool // that it could not be given to
}

// MTUStore remembers which MTUs pods were given: an [ipam.Store]. Another one is
// the operator's, and is left alone.
type MTUStore interface {
	PodMTUs() ([]int, error)
	NotePodMTU(mtu int) error
}

// Run follows the MTU until ctx ends. It begins with the pods of the last run,
// which may have had another one, and retries failures.
func (t *MTU) Run(ctx context.Context) error {
	if t.host == nil {
		t.host, t.give = hostMTUs, pod.SetMTU
	}
	retry := time.NewTimer(mtuRetry)
	defer retry.Stop()
	for {
		if left := t.tell(t.Now()); left {
			retry.Reset(mtuRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.Moved:
		case <-retry.C:
		}
	}
}

// tell brings pods with an MTU of ours to the present one, and reports whether
// some changes failed.
func (t *MTU) tell(mtu int) (left bool) {
	if mtu == 0 || mtu == t.told && len(t.left) == 0 {
		return false
	}
	former, err := t.Store.PodMTUs()
	if err == nil && (len(former) == 0 || former[0] != mtu) {
		err = t.Store.NotePodMTU(mtu)
	}
	if err != nil {
		t.Log.Warn("failed to change the mtu of running pods, retrying", "want", mtu, "err", err)
		return true
	}
	has, err := t.host()
	if err != nil {
		t.Log.Warn("failed to change the mtu of running pods, retrying", "want", mtu, "err", err)
		return true
	}
	again := mtu == t.told
	missed := t.set(has, former, mtu, again)
	if !again && len(former) > 0 && former[0] != mtu {
		t.Log.Info("mtu of running pods changed", "mtu", mtu, "was", former[0], "not_told", len(missed))
	}
	t.told, t.left = mtu, missed
	return len(missed) > 0
}

// set gives the MTU to the pods whose host device has another, and returns those
// that failed. Again means that only the pods which failed last time are tried,
// without another line in the log.
func (t *MTU) set(has map[string]int, former []int, mtu int, again bool) map[ipam.Handle]bool {
	missed := map[ipam.Handle]bool{}
	for _, as := range t.Assignments() {
		if has[as.HostDevice] == mtu || again && !t.left[as.Handle] {
			continue
		}
		err := t.give(as.Netns, as.IfName, as.HostDevice, former, mtu)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // it may just have ended
			continue
		}
		missed[as.Handle] = true
		if !again {
			t.Log.Warn("failed to change the mtu of a pod, retrying", "namespace", as.Namespace, "pod", as.Pod, "want", mtu, "err", err)
		}
	}
	return missed
}

// hostMTUs returns the MTUs of pods' host devices: for one that has the present
// value its pod need not be entered.
func hostMTUs() (map[string]int, error) {
	wired, err := pod.ListWired()
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, w := range wired {
		out[w.HostDevice] = w.MTU
	}
	return out, nil
}
