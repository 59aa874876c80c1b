package registry

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
)

// TestStopBeforeServe: a signal may end the process before the server's goroutine ran,
// which is no failure of it.
func TestStopBeforeServe(t *testing.T) {
	t.Parallel()
	s := New(Options{Node: "n", Log: slog.New(slog.DiscardHandler)})
	s.grpc.Stop()
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "registry.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), lis); err != nil {
		t.Error(err)
	}
}
