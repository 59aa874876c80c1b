package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"onlink/integration/lab"
	"onlink/integration/labtest"
)

// TestReplaced: an agent whose program was replaced, as by an upgrade, goes on, and status
// says what to do until it is restarted.
func TestReplaced(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.Alone("replaced"))
	l.Bin = t.TempDir()
	for _, program := range []string{"onlinkd", "onlinkctl"} {
		must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, program))
	}
	must(t, l.StartToRs(ctx))
	n := l.Node("r1n1")
	noted := func(want bool) {
		t.Helper()
		must(t, lab.Eventually(ctx, labtest.Patience, "the note of status", func() error {
			st, err := n.Status(ctx)
			if err != nil {
				return err
			}
			has := slices.ContainsFunc(st.GetNotes(), func(note string) bool {
				return strings.Contains(note, l.Bin+"/onlinkd was replaced since the start") && strings.Contains(note, "systemctl restart onlinkd")
			})
			if has != want {
				return fmt.Errorf("notes %q", st.GetNotes())
			}
			return nil
		}))
	}
	labtest.StartNode(ctx, t, n)
	noted(false)
	must(t, labtest.ReplaceProgram(labtest.Bin(), l.Bin, "onlinkd"))
	noted(true)
	labtest.WantCtl(ctx, t, n, 0, "was replaced since the start", "status")
	must(t, n.Stop())
	labtest.StartNode(ctx, t, n)
	noted(false)
}
