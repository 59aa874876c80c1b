package endpoint

import (
	"errors"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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
	other := filepath.Join(t.TempDir(), "node.key")
	if err := os.WriteFile(other, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix("cni.socket", other, 0o600, ""); err == nil || !strings.Contains(err.Error(), "is no socket; name another path") {
		t.Errorf("in a file's place: %v", err)
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "key" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// TestListenUnixNumber: a group is a name or a number, which needs no entry in
// /etc/group.
func TestListenUnixNumber(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives a file to a group")
	}
	for group, want := range map[string]uint32{"root": 0, "65532": 65532, "4294967294": 4294967294} {
		path := filepath.Join(t.TempDir(), "x.sock")
		lis, err := ListenUnix("api.admin.socket", path, 0o660, group)
		if err != nil {
			t.Fatalf("group %s: %v", group, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Sys().(*syscall.Stat_t).Gid != want {
			t.Errorf("group %s: %v, group %d", group, err, info.Sys().(*syscall.Stat_t).Gid)
		}
		lis.Close()
	}
	for _, group := range []string{"4294967295", "4294967296", "-1"} {
		if lis, err := ListenUnix("api.admin.socket", filepath.Join(t.TempDir(), "x.sock"), 0o660, group); err == nil {
			lis.Close()
			t.Errorf("group %s is accepted: chown(2) would leave the group as it is, or there is none", group)
		}
	}
}

// TestListenUnixRefuses: an error names the key of the configuration, and what
// is no leftover of an agent is not removed.
func TestListenUnixRefuses(t *testing.T) {
	dir := t.TempDir()
	file, full := filepath.Join(dir, "file"), filepath.Join(dir, "full")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.MkdirAll(filepath.Join(full, "inside"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, group, want string }{
		{"below a file", filepath.Join(file, "x.sock"), "", "cni.socket: mkdir "},
		{"a folder with something in it", full, "", "cni.socket: remove stale socket: "},
		{"too long", filepath.Join(dir, strings.Repeat("x", 200)), "", "cni.socket: "},
		{"a group that is not there", filepath.Join(dir, "g.sock"), "no-such-group", "cni.socket: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			lis, err := ListenUnix("cni.socket", c.path, 0o600, c.group)
			if err == nil {
				lis.Close()
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(full, "inside")); err != nil {
		t.Error(err)
	}
}

// TestListenUnixGroup: the group that the file names owns the socket.
func TestListenUnixGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "x.sock")
	lis, err := ListenUnix("api.admin.socket", path, 0o660, "daemon")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	group, err := user.LookupGroup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if own := info.Sys().(*syscall.Stat_t); own.Uid != 0 || strconv.Itoa(int(own.Gid)) != group.Gid {
		t.Errorf("the socket is of %d:%d, want 0:%s", own.Uid, own.Gid, group.Gid)
	}
}
