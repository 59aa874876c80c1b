package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBackup saves a file, and never replaces one.
func TestBackup(t *testing.T) {
	t.Parallel()
	socket := serve(t, &agent{})
	dir := t.TempDir()
	path := filepath.Join(dir, "copy.db")
	out, _, err := onlinkctl(t.Context(), "ipam", "backup", path, "--socket", socket)
	if err != nil || out != path+": 10 bytes\n" {
		t.Fatalf("printed %q, %v", out, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "whole file" {
		t.Fatalf("file has %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v; want 0600", info.Mode(), err)
	}
	if _, _, err := onlinkctl(t.Context(), "ipam", "backup", path, "--socket", socket); err == nil {
		t.Error("an existing file was replaced")
	}
	if _, _, err := onlinkctl(t.Context(), "ipam", "backup", filepath.Join(dir, "no.db"), "--socket", "/nonexistent/admin.sock"); err == nil {
		t.Error("a backup without an agent succeeded")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v; want the backup alone", left, err)
	}
}
