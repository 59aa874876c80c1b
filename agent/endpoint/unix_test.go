package endpoint

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListenUnix tells a leftover of a killed agent from a running one.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "x.sock")
	first, err := ListenUnix("api.admin.socket", path, 0o660, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v; want 0660", info.Mode(), err)
	}
	if _, err := ListenUnix("api.admin.socket", path, 0o660, ""); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("second agent: %v; want that another process serves it", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	second, err := ListenUnix("api.admin.socket", path, 0o660, "")
	if err != nil {
		t.Fatalf("over a leftover: %v", err)
	}
	second.Close()
	if _, err := ListenUnix("api.admin.socket", path, 0o660, "no-such-group"); err == nil {
		t.Error("an unknown group is no error")
	}
}
