package node

import (
	"log/slog"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestEventsOver: an alarm that is over is another Event when it comes again, and the
// others are not.
func TestEventsOver(t *testing.T) {
	t.Parallel()
	e := newEvents(slog.New(slog.DiscardHandler), nil, "n1")
	for _, key := range []string{"held a", "held b", "failed c"} {
		e.once(key, &corev1.Node{}, "OnlinkHeld", "text")
	}
	e.over("held ")
	if said := slices.Collect(maps.Keys(e.said)); !slices.Equal(said, []string{"failed c"}) {
		t.Errorf("Events that are not recorded again: %v", said)
	}
}
