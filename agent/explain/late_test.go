package explain

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"onlink/ipam"
	"onlink/probe"
)

// Times as those of the real parts: what does not answer costs them.
const (
	registryTime = 700 * time.Millisecond
	probeTime    = 1300 * time.Millisecond
)

// spend waits, and reports whether it was for the whole time.
func spend(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// slowly is a world whose parts take their time.
type slowly struct {
	*world

	wiring time.Duration // of a look at a pod's interface
	agent  error         // of an agent that is asked, after a second
}

func (s slowly) parts() World {
	out := s.world.parts()
	out.Registry, out.Probes, out.Status, out.Pods = slowOwners{out.Registry}, slowProbes{out.Probes}, slowStatus{}, slowPods{out.Pods, s.wiring}
	if s.agent != nil {
		out.Agents = slowAgents{s.agent}
	}
	return out
}

type slowOwners struct{ Registry }

func (s slowOwners) Registered(ctx context.Context) ([]ipam.Block, error) {
	spend(ctx, registryTime)
	return s.Registry.Registered(ctx)
}

type slowPods struct {
	Pods

	wiring time.Duration
}

func (s slowPods) Wiring(ctx context.Context, as ipam.Assignment) (Wiring, error) {
	spend(ctx, s.wiring)
	return s.Pods.Wiring(ctx, as)
}

type slowProbes struct{ Probes }

func inTime(ctx context.Context, out probe.Outcome) probe.Outcome {
	if out.Kind == probe.Silent && !spend(ctx, probeTime) {
		return probe.Outcome{Kind: probe.Skipped, Detail: "given up, for want of time"}
	}
	return out
}

func (s slowProbes) Echo(ctx context.Context, e probe.Echo) probe.Outcome {
	return inTime(ctx, s.Probes.Echo(ctx, e))
}

func (s slowProbes) Connect(ctx context.Context, e probe.Echo) probe.Outcome {
	return inTime(ctx, s.Probes.Connect(ctx, e))
}

func (s slowProbes) Wire(ctx context.Context, dev, mac string, e probe.Echo) probe.Outcome {
	return inTime(ctx, s.Probes.Wire(ctx, dev, mac, e))
}

type slowAgents struct{ err error }

func (s slowAgents) Ask(ctx context.Context, node []netip.Addr, _ Inquiry) (Findings, error) {
	spend(ctx, askTime)
	return Findings{}, &SilentError{At: netip.AddrPortFrom(node[0], 9180), Err: s.err}
}

// slowStatus takes longer than there is: its lines are an addition.
type slowStatus struct{}

func (slowStatus) Problems(ctx context.Context) ([]string, error) {
	spend(ctx, time.Minute)
	return nil, ctx.Err()
}

// TestLateIsNoEvidence explains with parts that take more time than there is, as those
// of a busy machine or a network that loses all do: the answer comes in time, with what
// was found by then, and what was given up is called neither broken nor silent.
func TestLateIsNoEvidence(t *testing.T) {
	const near, far = "10.244.1.5", "10.244.2.7"
	base := []string{
		"pool 10.244.0.0/16 onlink-vxlan", "own 10.244.1.0/26", "pod " + near + " default/client onl00000000001", "registry 10.244.2.0/26 n2",
		"node n2 10.57.0.12", "reach 10.57.0.12 on-link eth0", "path 10.244.2.0/26 10.57.0.12",
	}
	lost := []string{"echo pod " + far + " silent left " + near, "echo 10.57.0.12 silent"}
	for _, c := range []struct {
		name  string
		do    []string
		slow  slowly
		from  string
		cause Cause // "": the path is called whole
		never []Cause
		text  string // of a step
	}{
		{name: "all is lost, and status has no time", do: lost, cause: ProbeWire},
		{name: "both ways", do: lost, from: near, cause: ProbeWire},
		{name: "no time for a probe of the far node", do: lost, slow: slowly{wiring: 2 * time.Second}, cause: ProbeLost, never: []Cause{ProbeWire, ProbeFar}, text: "a probe was given up"},
		{name: "no time for the probe", do: lost[:1], slow: slowly{wiring: time.Minute}, never: []Cause{ProbeWire, ProbeFar, ProbeLost}},
		{name: "no time for the agent", do: append([]string{"registry silent", "known 2m"}, lost...), slow: slowly{wiring: 500 * time.Millisecond, agent: context.DeadlineExceeded}, cause: ProbeWire, text: "the answer of the agent of node n2 was given up, for want of time"},
		{name: "time for the agent", do: append([]string{"registry silent", "known 2m"}, lost...), slow: slowly{agent: context.DeadlineExceeded}, cause: ProbeWire, text: "the agent of node n2 does not answer at 10.57.0.12:9180"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.slow.world = newWorld()
				for _, line := range slices.Concat(base, c.do) {
					words := strings.Fields(line)
					if err := c.slow.do(words[0], words[1:]); err != nil {
						t.Fatalf("%s: %v", line, err)
					}
				}
				q := Question{To: netip.MustParseAddr(far)}
				if c.from != "" {
					q.From = netip.MustParseAddr(c.from)
				}
				begin := time.Now()
				r, err := Explain(t.Context(), c.slow.parts(), q)
				if err != nil {
					t.Fatalf("no answer: %v", err)
				}
				if took := time.Since(begin); took > patience {
					t.Errorf("answered after %v, want within %v", took, patience)
				}
				all := strings.Join(render(r), "\n")
				if r.Cause != c.cause || r.Reachable != (c.cause == "") {
					t.Errorf("cause %q, want %q:\n%s", r.Cause, c.cause, all)
				}
				if !strings.Contains(all, c.text) {
					t.Errorf("no step has %q:\n%s", c.text, all)
				}
				for _, s := range r.Steps {
					if slices.Contains(c.never, s.Cause) {
						t.Errorf("a step has the cause %s:\n%s", s.Cause, all)
					}
				}
			})
		})
	}
}
