package agent

import (
	"context"
	"errors"
	"io/fs"
	"math"

	"onlink/cni"
	"onlink/fib/underlay"
	"onlink/tunnel"
)

// podMTU is what a pod's interface gets: what fits into the underlay and every
// tunnel. 0 means that nothing is known yet.
func podMTU(w *underlay.Watcher, l *learn) int {
	mtu := math.MaxInt
	for _, a := range l.locals {
		if _, under := w.LinkFor(a); under > 0 {
			mtu = min(mtu, under)
		}
	}
	for _, d := range l.wanted {
		switch {
		case d.MTU != 0:
			mtu = min(mtu, d.MTU)
		case d.UnderlayMTU != 0:
			mtu = min(mtu, d.UnderlayMTU-tunnel.Overhead(d.Kind, d.Local))
		}
	}
	if mtu == math.MaxInt {
		return 0
	}
	return mtu
}

// followMTU notes the MTU of pods and wakes tellPodsMTU when it changed.
func (l *learn) followMTU() {
	mtu := int64(podMTU(l.watch, l))
	if mtu == 0 || l.podMTU.Swap(mtu) == mtu {
		return
	}
	select {
	case l.mtuNews <- struct{}{}:
	default: // it has not woken up yet and will read the latest
	}
}

// tellPodsMTU gives running pods the MTU of new ones when that changes, until
// ctx ends. Path MTU discovery would find it too, for each destination by
// itself, and not for what a pod sends to this node.
func (a *agent) tellPodsMTU(ctx context.Context) error {
	told := a.podMTU()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.learn.mtuNews:
		}
		now := a.podMTU()
		if now == told {
			continue
		}
		pods := a.alloc.Assignments()
		for _, as := range pods {
			err := cni.SetMTU(as.Netns, as.IfName, as.HostDevice, told, now)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may just have ended
				a.log.Warn("pod keeps its mtu", "namespace", as.Namespace, "pod", as.Pod, "mtu", told, "want", now, "err", err)
			}
		}
		a.log.Info("pods told their mtu", "pods", len(pods), "mtu", now, "was", told)
		told = now
	}
}
