package cni

import (
	"strings"
	"testing"

	onlinkv1 "onlink/proto/v1"
)

// TestStats counts a served ADD, a failed CHECK and a pod that was removed.
func TestStats(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ok(add(pod))
	n.ok(add(pod).as("DEL"))
	n.reaped()
	n.fails(add(pod).as("CHECK"), 100)
	s := n.server.Stats()
	if s.Verbs["ADD"].Served != 1 || s.Verbs["ADD"].Took.Count != 1 || s.Verbs["ADD"].Took.Sum <= 0 || s.Verbs["CHECK"].Failed != 1 || s.Ending != 0 || s.Ended != 1 {
		t.Errorf("got %+v", s)
	}
}

// TestNotes: the plugin that called last is a note when its version is another than the
// agent's, also one that names none; an agent built without make has no version to compare.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		name, agent string
		calls       []string // versions of plugins, in order
		want        string   // empty: no note
	}{
		{"none called", "v0.1.0", nil, ""},
		{"the same", "v0.1.0", []string{"v0.1.0"}, ""},
		{"another", "v0.1.0", []string{"v0.1.0", "v0.0.9"}, `calls onlink-cni "v0.0.9", and the agent is "v0.1.0"`},
		{"one without a version", "v0.1.0", []string{""}, "names no version"},
		{"upgraded", "v0.1.0", []string{"v0.0.9", "v0.1.0"}, ""},
		{"an agent without a version", "", []string{"v0.0.9"}, ""},
		{"a long one", "v0.1.0", []string{strings.Repeat("x\n", 1000)}, `"x\nx\nx`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{cfg: &Config{Version: c.agent}}
			for _, v := range c.calls {
				s.called(&onlinkv1.CNIRequest{Version: v})
			}
			got := strings.Join(s.Notes(), "; ")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || len(got) > 400 {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
