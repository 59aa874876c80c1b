package gobgp

import (
	"strings"
	"testing"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// TestMachineStates: the states of the engine's state machine have the names of
// RFC 4271, compared with the engine's own names.
func TestMachineStates(t *testing.T) {
	for s := bgp.BGP_FSM_IDLE; s <= bgp.BGP_FSM_ESTABLISHED; s++ {
		if got, want := machineState(s), strings.TrimPrefix(s.String(), "BGP_FSM_"); !strings.EqualFold(got, want) {
			t.Errorf("state %d is %s, want %s", s, got, want)
		}
	}
}
