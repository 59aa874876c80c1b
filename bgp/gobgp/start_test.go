//go:debug multipathtcp=0
package gobgp

import (
	"context"
	"log/slog"
	"net"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// silent is a Reporter for tests of other things.
type silent struct{}

func (silent) Record(slog.Level, Record) {}
func (silent) Wants(slog.Level) bool     { return false }
func (silent) Event(Event)               {}

// TestStartAgain: a failed start leaves no listener behind.
func TestStartAgain(t *testing.T) {
	if !Patched() {
		t.Skip("needs the patched engine: use make, or see CONTRIBUTING.md")
	}
	taken, err := net.Listen("tcp4", "127.44.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	s := server.NewBgpServer(server.LoggerOption(&logger{to: silent{}}))
	go s.Serve()
	start := &api.StartBgpRequest{Global: &api.Global{
		Asn: 64512, RouterId: "127.44.0.1", ListenPort: int32(port), ListenAddresses: []string{"127.44.0.1", "127.44.0.2"}, Families: []uint32{0, 1},
	}}
	if err := s.StartBgp(t.Context(), start); err == nil {
		t.Fatal("started on a port that is taken")
	}
	start.Global.ListenAddresses = start.Global.ListenAddresses[:1]
	if err := s.StartBgp(t.Context(), start); err != nil {
		t.Errorf("second start: %v", err)
	}
	if err := s.StopBgp(context.Background(), &api.StopBgpRequest{}); err != nil {
		t.Errorf("stop: %v", err)
	}
}
