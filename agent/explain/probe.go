package explain

import (
	"context"
	"fmt"
	"time"

	"onlink/probe"
)

// probeLink sends packets over the very path, small and then as large as pods
// send them, and finds the segment in which they are lost.
type probeLink struct {
	registry Registry
	kernel   Kernel
	probes   Probes
}

func (l probeLink) check(ctx context.Context, t *trail) {
	if t.lost || t.place == announced || t.place == unused {
		return
	}
	e := probe.Echo{To: t.To}
	switch {
	case t.from.IsValid() && t.source.Netns != "":
		e.Netns, e.From = t.source.Netns, t.from
		e.Watch = devices(t)
	case t.From.IsValid():
		got, err := l.kernel.Source(t.From)
		if err != nil || !got.Self {
			return // without a route the packets begin on another node
		}
		e.From = t.From
	}
	out := l.probes.Echo(ctx, e)
	switch out.Kind {
	case probe.Answered:
		l.answered(ctx, t, e, out)
	case probe.Skipped:
		t.ok("probe", "%s", out.Detail)
	case probe.Unsent:
		t.broken("probe", ProbeUnsent, "see the reason; `ip route get` and the chains of the hook output show more", "a probe to %s is not sent: %s", t.To, out.Detail)
	case probe.Rejected, probe.TooBig:
		t.broken("probe", ProbeRejected, fmt.Sprintf("see the routes, chains and settings of %s", out.By), "a probe %s to %s is rejected on the way: %s", sender(t, e), t.To, out.Detail)
	case probe.Silent:
		segmenter(l).silent(ctx, t, e, out)
	}
}

// answered goes on with a large packet.
func (l probeLink) answered(ctx context.Context, t *trail, e probe.Echo, small probe.Outcome) {
	who := sender(t, e)
	text := fmt.Sprintf("%s answers a probe %s within %v", t.To, who, small.RTT.Round(10*time.Microsecond))
	whole := e.Netns != "" // else the switches for forwarded packets are not on the way
	if dev, err := l.kernel.Device(t.source.HostDevice); whole && err == nil && dev.MTU > 0 {
		large := e
		large.Size, large.Watch = dev.MTU, nil
		switch out := l.probes.Echo(ctx, large); out.Kind {
		case probe.Answered:
			text += fmt.Sprintf(", also one of %d bytes", large.Size)
		case probe.TooBig:
			text += fmt.Sprintf("; the MTU of the path is %d, as %s says, and of the pod %d: senders follow that", out.MTU, out.By, large.Size)
		case probe.Silent:
			t.broken("probe", ProbeMTU, "find the link with the smaller MTU, and let ICMP \"fragmentation needed\" pass; or set `cni.mtu` lower",
				"small packets %s to %s pass, those of %d bytes are lost without an answer: a link on the path has a smaller MTU and drops them silently", who, t.To, large.Size)
			return
		case probe.Unsent, probe.Rejected, probe.Skipped:
		}
	}
	t.probed = whole || t.place == outside
	t.ok("probe", "%s", text)
	t.good += "; " + text
}
