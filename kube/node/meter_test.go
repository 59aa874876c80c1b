package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	onlinkv1 "onlink/proto/v1"
)

// TestReadyz: the pod is ready when the node is, also the only one of a cluster; one that
// lacks a session is not, though its agent has no peer configured.
func TestReadyz(t *testing.T) {
	t.Parallel()
	alone := &onlinkv1.Status{Phase: "ready", InSync: true, Blocks: 1}
	m := newMeter("")
	for _, c := range []struct {
		name  string
		judge func()
		code  int
		text  string // its beginning
	}{
		{"before the first judgement", func() {}, http.StatusServiceUnavailable, "starting: "},
		{"the only node", func() { m.judged(judge(alone, 1, false, "")) }, http.StatusOK, "ready\n"},
		{"neither reflectors nor a mesh", func() { m.judged(judge(alone, 1, false, "there is no reflector")) }, http.StatusServiceUnavailable, "NoSession: there is no reflector"},
		{"the agent is away", func() { m.judged(readiness{reason: "AgentAway", message: "it does not answer"}) }, http.StatusServiceUnavailable, "AgentAway: it does not answer"},
		{"again", func() { m.judged(judge(alone, 1, false, "")) }, http.StatusOK, "ready\n"},
	} {
		c.judge()
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
		if w.Code != c.code || !strings.HasPrefix(w.Body.String(), c.text) {
			t.Errorf("%s: %d %q, want %d %q", c.name, w.Code, w.Body, c.code, c.text)
		}
	}
}
