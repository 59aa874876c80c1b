// Package integration holds the whole-system tests: the real programs in the
// lab's racks. What needs ipip devices says so and is skipped on kernels
// without; the test bed runs it in user-mode Linux.
//
//go:debug multipathtcp=0
package integration

import (
	"os"
	"testing"

	"onlink/integration/labtest"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// must is [labtest.Must], by a short name because a tenth of all lines calls it.
func must(t *testing.T, err error) {
	t.Helper()
	labtest.Must(t, err)
}
