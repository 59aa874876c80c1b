package cni

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// installation prepares a plugin with the given text, and empty folders.
func installation(t *testing.T, text string) Installation {
	t.Helper()
	dir := t.TempDir()
	i := Installation{
		Plugin: filepath.Join(dir, "built"), BinDir: filepath.Join(dir, "opt/cni/bin"), ConfDir: filepath.Join(dir, "etc/cni/net.d"),
		Socket: "/run/elsewhere.sock",
	}
	write(t, i.Plugin, text)
	return i
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// names lists a folder, hidden files too.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// TestInstall installs, installs again, upgrades and uninstalls.
func TestInstall(t *testing.T) {
	i := installation(t, "#!/bin/sh\necho one\n")
	for range 2 {
		if err := i.InstallPlugin(); err != nil {
			t.Fatal(err)
		}
		if err := i.InstallConflist(); err != nil {
			t.Fatal(err)
		}
	}
	plugin := filepath.Join(i.BinDir, PluginName)
	if out, err := exec.Command(plugin).Output(); err != nil || string(out) != "one\n" {
		t.Errorf("plugin printed %q: %v", out, err)
	}
	list, err := libcni.ConfListFromFile(filepath.Join(i.ConfDir, ConflistName))
	if err != nil {
		t.Fatal(err)
	}
	var conf struct{ Socket string }
	if err := json.Unmarshal(list.Plugins[0].Bytes, &conf); err != nil || conf.Socket != i.Socket || list.CNIVersion != "1.0.0" {
		t.Errorf("socket %q, version %s: %v", conf.Socket, list.CNIVersion, err)
	}

	old, err := os.Open(plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	write(t, i.Plugin, "#!/bin/sh\necho two\n")
	if err := i.InstallPlugin(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := old.Read(buf); err != nil || string(buf[:n]) != "#!/bin/sh\necho one\n" {
		t.Errorf("the running plugin's file became %q: %v", buf[:n], err)
	}
	if out, err := exec.Command(plugin).Output(); err != nil || string(out) != "two\n" {
		t.Errorf("upgraded plugin printed %q: %v", out, err)
	}

	write(t, filepath.Join(i.ConfDir, "87-other.conflist"), "{}")
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := append(names(t, i.BinDir), names(t, i.ConfDir)...); len(got) != 1 || got[0] != "87-other.conflist" {
		t.Errorf("left behind: %v", got)
	}
	if err := i.Uninstall(); err != nil {
		t.Errorf("second time: %v", err)
	}
}

// TestInstallRepairs replaces files that were changed, and their modes.
func TestInstallRepairs(t *testing.T) {
	i := installation(t, "plugin")
	if err := os.MkdirAll(i.BinDir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(i.BinDir, PluginName)
	write(t, path, "plugin") // not executable
	if err := i.InstallPlugin(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("mode %v: %v", st.Mode(), err)
	}
}

// TestInstallFails leaves no half file after an error.
func TestInstallFails(t *testing.T) {
	i := installation(t, "plugin")
	if err := os.MkdirAll(filepath.Join(i.BinDir, PluginName), 0o755); err != nil { // a folder where the file goes
		t.Fatal(err)
	}
	if err := i.InstallPlugin(); err == nil {
		t.Error("replaced a folder")
	}
	if got := names(t, i.BinDir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
	i.Plugin += "-absent"
	if err := i.InstallPlugin(); err == nil {
		t.Error("installed a plugin that is not there")
	}
	i.Socket = "relative.sock"
	if err := i.InstallConflist(); err == nil {
		t.Error("accepted a relative socket")
	}
}
