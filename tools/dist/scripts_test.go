package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is the root folder of a machine with systemd, as far as the maintainer
// scripts look.
type machine struct {
	t    *testing.T
	root string
	env  []string
}

// fakeSystemctl notes its arguments, and reports the process of the agent.
const fakeSystemctl = `#!/bin/sh
echo "$*" >>"$DPKG_ROOT/calls"
[ "$1" = show ] && cat "$DPKG_ROOT/pid"
exit 0
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	m.write("run/systemd/system/onlinkd.service", "", 0)
	m.write("etc/onlink/onlinkd.yaml", "", 0o644)
	m.write("var/lib/onlink/onlink.db", "addresses", 0o600)
	m.write("bin/systemctl", fakeSystemctl, 0o755)
	m.write("pid", "0\n", 0o644)
	m.env = append(os.Environ(), "DPKG_ROOT="+m.root, "PATH="+m.root+"/bin:"+os.Getenv("PATH"))
	return m
}

// write writes a file, or with mode 0 makes its folder alone.
func (m *machine) write(name, text string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if mode == 0 {
		return
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) exists(name string) bool {
	m.t.Helper()
	_, err := os.Stat(filepath.Join(m.root, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	return err == nil
}

// runs starts an agent of this text: a program that goes on until the test ends.
func (m *machine) runs(text []byte, args ...string) {
	m.t.Helper()
	m.write("agent", string(text), 0o755)
	cmd := exec.CommandContext(m.t.Context(), filepath.Join(m.root, "agent"), append([]string{"infinity"}, args...)...)
	cmd.Args = append([]string{"sleep", "infinity"}, args...)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	m.write("pid", fmt.Sprintln(cmd.Process.Pid), 0o644)
}

// script runs a maintainer script, and returns what it printed and the calls of
// systemctl beside daemon-reload and show.
func (m *machine) script(name string, args ...string) (printed string, calls []string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "sh", append([]string{"../../deploy/packages/" + name + ".sh"}, args...)...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	text, err := os.ReadFile(filepath.Join(m.root, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "daemon-reload") && !strings.HasPrefix(line, "show ") {
			calls = append(calls, strings.TrimSpace(line))
		}
	}
	return string(out), calls
}

// TestPostinstall: only a changed program that accepts the configuration takes the
// place of a running agent.
func TestPostinstall(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	former, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	const accepts, rejects = "#!/bin/sh\n[ \"$*\" = \"--check-config --file-only --config $DPKG_ROOT/etc/onlink/onlinkd.yaml\" ]\n", "#!/bin/sh\necho 'onlinkd.yaml:3: bgp.asn: no'\nexit 1\n"
	const restart = "restart onlinkd.service"
	for _, tt := range []struct {
		name      string
		installed string
		running   bool
		env       string
		args      []string
		calls     string
		printed   string
	}{
		{"first install of a deb", accepts, false, "", []string{"configure", ""}, "", "enable --now"},
		{"first install of an rpm", accepts, false, "", []string{"1"}, "", "enable --now"},
		{"upgrade, stopped", accepts, false, "", []string{"configure", "0.1.0-1"}, "", ""},
		{"upgrade, the same program", string(former), true, "", []string{"configure", "0.1.0-1"}, "", ""},
		{"upgrade of a deb", accepts, true, "", []string{"configure", "0.1.0-1"}, restart, ""},
		{"upgrade of an rpm", accepts, true, "", []string{"2"}, restart, ""},
		{"a rejected configuration", rejects, true, "", []string{"configure", "0.1.0-1"}, "", "rejects the configuration"},
		{"left to the operator", accepts, true, "ONLINK_RESTART=no", []string{"configure", "0.1.0-1"}, "", "until: systemctl restart"},
		{"an upgrade that failed", accepts, true, "", []string{"abort-upgrade", "0.1.0-1"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.write("usr/bin/onlinkd", tt.installed, 0o755)
			if tt.running {
				m.runs(former)
			}
			m.env = append(m.env, tt.env)
			printed, calls := m.script("postinstall", tt.args...)
			if got := strings.Join(calls, "; "); got != tt.calls {
				t.Errorf("systemctl %q, want %q", got, tt.calls)
			}
			if !strings.Contains(printed, tt.printed) || tt.printed == "" && printed != "" {
				t.Errorf("printed %q, want %q", printed, tt.printed)
			}
		})
	}
}

// TestPostinstallOtherFile: the configuration of the running agent is judged, not that
// of the default path.
func TestPostinstallOtherFile(t *testing.T) {
	for _, args := range [][]string{{"--config", "1d"}, {"--config=1d"}, {"-c", "1d"}} {
		m := newMachine(t)
		m.write("usr/bin/onlinkd", "#!/bin/sh\n[ \"$4\" = 1d ]\n", 0o755)
		m.write("agent", "read line\n", 0o644)
		// A shell as the agent: sleep(1) rejects such flags.
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{filepath.Join(m.root, "agent")}, args...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		m.write("pid", fmt.Sprintln(cmd.Process.Pid), 0o644)
		if _, calls := m.script("postinstall", "configure", "0.1.0-1"); len(calls) != 1 {
			t.Errorf("%v: systemctl %q, want one restart", args, calls)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its read fails
	}
}

// TestPreremove: an upgrade stops nothing.
func TestPreremove(t *testing.T) {
	for _, tt := range []struct{ arg, calls string }{
		{"upgrade", ""},
		{"1", ""},
		{"remove", "disable --now onlinkd.service"},
		{"0", "disable --now onlinkd.service"},
	} {
		m := newMachine(t)
		m.write("etc/cni/net.d/10-onlink.conflist", "{}", 0o644)
		printed, calls := m.script("preremove", tt.arg)
		if got := strings.Join(calls, "; "); got != tt.calls {
			t.Errorf("%s: systemctl %q, want %q", tt.arg, got, tt.calls)
		}
		if got, want := strings.Contains(printed, "10-onlink.conflist"), tt.calls != ""; got != want {
			t.Errorf("%s: printed %q", tt.arg, printed)
		}
	}
}

// TestPostremove: the database goes on a purge alone, and not under running pods.
func TestPostremove(t *testing.T) {
	for _, tt := range []struct {
		name, arg, group string
		stays            bool
	}{
		{"removed", "remove", "", true},
		{"upgraded", "upgrade", "", true},
		{"rpm removed", "0", "", true},
		{"rpm upgraded", "1", "", true},
		{"purged", "purge", "0\n", false},
		{"purged under pods", "purge", "1330380802\n", true},
		{"purged beside another group", "purge", "1330380816\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			if tt.group != "" {
				m.write("sys/class/net/onl0123456789a/netdev_group", tt.group, 0o644)
			}
			m.write("etc/onlink/a.key", "key", 0o600)
			printed, calls := m.script("postremove", tt.arg)
			if len(calls) > 0 {
				t.Errorf("systemctl %q", calls)
			}
			if got := m.exists("var/lib/onlink/onlink.db"); got != tt.stays {
				t.Errorf("the database is there: %v, want %v; printed %q", got, tt.stays, printed)
			}
			if !m.exists("etc/onlink/a.key") {
				t.Error("an operator's key is gone")
			}
		})
	}
}
