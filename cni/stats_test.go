package cni

import "testing"

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
