package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"onlink/internal/version"
	onlinkv1 "onlink/proto/v1"
)

var update = flag.Bool("update", false, "rewrite the expected output under testdata")

func TestOutput(t *testing.T) {
	t.Parallel()
	socket := serve(t, &agent{})
	tests := []struct {
		name string
		args string
		err  error
	}{
		{"status", "status", nil},
		{"status_json", "status -o json", nil},
		{"status_yaml", "status -o yaml", nil},
		{"peers", "peers", nil},
		{"peers_yaml", "peers -o yaml", nil},
		{"peer", "peers rr1", nil},
		{"peer_yaml", "peers rr1 -o yaml", nil},
		{"peer_gone", "peers 10.57.0.12", nil},
		{"peer_received", "peers tor1 received", nil},
		{"peer_received_json", "peers tor1 received -o json", nil},
		{"peer_rejected_yaml", "peers tor1 rejected 10.9.1.0/24 -o yaml", nil},
		{"peer_accepted_none", "peers tor1 accepted", nil},
		{"peer_accepted_none_yaml", "peers tor1 accepted -o yaml", nil},
		{"peer_advertised", "peers tor1 advertised 10.244.1.9/26", nil},
		{"peer_refresh", "peers tor1 refresh in", nil},
		{"peer_forget", "peers tor1 forget", nil},
		{"routes", "routes", nil},
		{"routes_json", "routes -o json", nil},
		{"routes_address", "routes 10.244.0.5", nil},
		{"routes_prefix", "routes 10.244.1.9/26", nil},
		{"routes_none", "routes 192.0.2.0/24", nil},
		{"blocks", "blocks", nil},
		{"blocks_all", "blocks --all", nil},
		{"pools", "pools", nil},
		{"pools_json", "pools --output=json", nil},
		{"namespaces", "namespaces", nil},
		{"namespaces_json", "namespaces -o json", nil},
		{"ipam_show", "ipam show", nil},
		{"ipam_show_address", "ipam show ::ffff:10.244.0.5", nil},
		{"ipam_show_unused", "ipam show 10.244.0.9", nil},
		{"ipam_check", "ipam check", errUnreachable},
		{"peers_disable", "peers tor1 disable --reason maintenance", nil},
		{"peers_enable", "peers tor1 enable", nil},
		{"config_show", "config show", nil},
		{"config_reload", "config reload", nil},
		{"config_confirm", "config confirm", nil},
		{"config_confirm_digest", "config confirm 5d41402abc4b2a76", nil},
		{"config_show_json", "config show -o json", nil},
		{"config_apply_dry", "config apply testdata/apply.yaml --dry-run", nil},
		{"config_apply_held", "config apply testdata/held.yaml", errUnreachable},
		{"config_apply_held_dry", "config apply testdata/held.yaml --dry-run", nil},
		{"config_apply_confirm", "config apply testdata/held.yaml --confirm", nil},
		{"config_reload_confirm", "config reload --confirm", nil},
		{"config_apply_same", "config apply testdata/apply.yaml", nil},
		{"config_set_peer", "config set-peer {name:tor1}", nil},
		{"config_remove_filter", "config remove-filter from-tor --if-digest 0123456789abcdef", nil},
		{"announcements", "announcements", nil},
		{"announcements_json", "announcements -o json", nil},
		{"announce", "announce operator --prefix 203.0.113.7 --prefix 203.0.113.8/29 --confirm", nil},
		{"announce_flags", "announce operator --prefix 203.0.113.7/32 --peer tor1 --peer tor2 --community 64512:7 --local-pref 0 --graceful-shutdown --reason now", errUnreachable},
		{"announce_file", "announce operator -f testdata/announce.yaml", errUnreachable},
		{"announce_none", "announce operator --none", errUnreachable},
		{"config_diff", "config diff testdata/diff.yaml --routes 2", nil},
		{"config_diff_json", "config diff testdata/diff.yaml -o json", nil},
		{"config_diff_none", "config diff testdata/none.yaml", nil},
		{"config_diff_restart", "config diff testdata/restart.yaml", nil},
		{"config_diff_unknown", "config diff testdata/unknown.yaml", nil},
		{"config_apply_dry_run", "config apply testdata/diff.yaml --dry-run", nil},
		{"drain", "drain --wait 1s", nil},
		{"log", "log", nil},
		{"log_set", "log debug --part bgp,fib --for 90s", nil},
		{"undrain", "undrain", nil},
		{"ipam_check_repair", "ipam check --repair", nil},
		{"ipam_release_force", "ipam release 10.244.0.5 --force", nil},
		{"ipam_release_node", "ipam release-node r2n7", nil},
		{"ipam_release_node_force", "ipam release-node r2n8 --force", nil},
		{"ipam_take_over", "ipam take-over r2n7 --force", nil},
		{"ipam_audit", "ipam audit", nil},
		{"ipam_show_yaml", "ipam show 10.244.0.5 -o yaml", nil},
		{"policy_import", "policy test --peer tor1 --direction import 0.0.0.0/0 --as-path 65001", errUnreachable},
		{"policy_export", "policy test --peer tor1 --direction export 10.244.1.9/26 --med 0 --community 64512:100 --community 64512:1:2 --source own", nil},
		{"policy_export_yaml", "policy test --peer tor1 --direction export 10.244.1.0/26 -o yaml", nil},
		{"explain", "explain 10.244.1.7", nil},
		{"explain_broken", "explain 10.244.1.8", errUnreachable},
		{"explain_from_json", "explain 10.244.3.9 10.244.1.8 -o json", errUnreachable},
		{"explain_broken_json", "explain 10.244.1.8 -o json", errUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, err := onlinkctl(t.Context(), append(strings.Fields(tt.args), "--socket", socket)...)
			if !errors.Is(err, tt.err) || stderr != "" {
				t.Errorf("error %v, want %v; stderr %q", err, tt.err, stderr)
			}
			if strings.ContainsRune(stdout, '\x1b') {
				t.Errorf("a terminal's escape code got through: %q", stdout)
			}
			golden(t, tt.name, stdout)
		})
	}
}

// TestCompletePeers: the shell is offered the names of the agent's peers, and
// nothing where there is no agent.
func TestCompletePeers(t *testing.T) {
	t.Parallel()
	socket := serve(t, &agent{})
	for _, tt := range []struct{ socket, begun, want string }{
		{socket, "", "rr1\ntor1\nrr2\n10.57.0.12\n:4\n"},
		{socket, "t", "tor1\n:4\n"},
		{"/nonexistent/admin.sock", "", ":4\n"},
	} {
		stdout, _, err := onlinkctl(t.Context(), cobra.ShellCompNoDescRequestCmd, "policy", "test", "--socket", tt.socket, "--peer", tt.begun)
		if err != nil || stdout != tt.want {
			t.Errorf("completion of %q: %q, error %v, want %q", tt.begun, stdout, err, tt.want)
		}
	}
}

// golden compares with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	socket := serve(t, &agent{})
	hanging := serve(t, &agent{hang: true})
	old := serve(t, onlinkv1.UnimplementedAdminServer{})
	stale := filepath.Join(t.TempDir(), "stale.sock")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, args string
		want       []string // all are in the error
	}{
		{"no agent", "status --socket /nonexistent/admin.sock", []string{"/nonexistent/admin.sock", "not running", "systemctl status onlinkd"}},
		{"no process listens", "peers --socket " + stale, []string{stale, "not running", "systemctl status onlinkd"}},
		{"no answer", "status --timeout 300ms --socket " + hanging, []string{hanging, "within 300ms", "journalctl -u onlinkd"}},
		{"old agent", "pools --socket " + old, []string{old, "older than onlinkctl"}},
		{"refused by the agent", "explain 192.0.2.1 --socket " + socket, []string{"address 192.0.2.1 is in no pool"}},
		{"bad address", "explain here --socket " + socket, []string{`"here" is not an address`}},
		{"no address", "explain --socket " + socket, []string{"accepts between 1 and 2 arg(s)"}},
		{"bad source", "explain here 10.244.1.7 --socket " + socket, []string{`"here" is not an address`}},
		{"bad prefix", "routes 10.0.0.0/33 --socket " + socket, []string{`"10.0.0.0/33" is neither`}},
		{"bad ipam address", "ipam show fe80::1%eth0 --socket " + socket, []string{"is not an address"}},
		{"release of a live pod", "ipam release 10.244.0.5 --socket " + socket, []string{"default/web-1", "--force"}},
		{"unknown peer", "peers nobody reset --socket " + socket, []string{"nobody", "onlinkctl peers"}},
		{"unknown peer", "peers spine --socket " + socket, []string{`no peer has the name or address "spine"`}},
		{"bad peer action", "peers tor1 stop --socket " + socket, []string{`unknown "stop" after a peer`, "refresh in", "advertised"}},
		{"refresh without direction", "peers tor1 refresh --socket " + socket, []string{"refresh in or refresh out"}},
		{"routes of a peer without session", "peers rr9 received --socket " + socket, []string{"the peer has no session: rr9"}},
		{"routes of a peer, two prefixes", "peers tor1 received 10.0.0.0/8 10.1.0.0/16 --socket " + socket, []string{"use one prefix"}},
		{"routes of a peer, bad prefix", "peers tor1 received ten --socket " + socket, []string{`"ten" is neither a prefix nor an address`}},
		{"routes of a peer, repeated", "peers tor1 received --watch --socket " + socket, []string{"--watch does not repeat"}},
		{"routes of a peer that do not come", "peers slow received --timeout 50ms --socket " + socket, []string{"did not send more within 50ms"}},
		{"config of nobody", "config remove-peer nobody --socket " + socket, []string{"nobody", "no such entry"}},
		{"stale config", "config set-filter {name:x} --if-digest stale --socket " + socket, []string{"changed since"}},
		{"no announcements", "announce operator --socket " + socket, []string{"file", "prefix", "none"}},
		{"two sources of announcements", "announce operator --none --prefix 203.0.113.7 --socket " + socket, []string{"none", "prefix"}},
		{"bad announcement", "announce operator --prefix web --socket " + socket, []string{`"web" is neither`}},
		{"bad file of announcements", "announce operator -f testdata/announce_bad.yaml --socket " + socket, []string{"testdata/announce_bad.yaml", "announcements: [{prefix"}},
		{"no file of announcements", "announce operator -f /nonexistent/a.yaml --socket " + socket, []string{"/nonexistent/a.yaml"}},
		{"a file in Latin-1", "config apply testdata/latin1.yaml --socket " + socket, []string{"testdata/latin1.yaml is no UTF-8 text; "}},
		{"no config file", "config apply /nonexistent/onlinkd.yaml --socket " + socket, []string{"/nonexistent/onlinkd.yaml"}},
		{"bad log level", "log trace --socket " + socket, []string{`"trace"`}},
		{"a part without a level", "log --part bgp --socket " + socket, []string{"need a LEVEL"}},
		{"a log level for no time", "log debug --for 0s --socket " + socket, []string{"--for 0s", "10m"}},
		{"a log level of no part", "log debug --part bpg --socket " + socket, []string{"bpg", "use agent, bgp, fib"}},
		{"bad drain wait", "drain --wait 2h --socket " + socket, []string{"wait"}},
		{"bad release", "ipam release here --socket " + socket, []string{`"here" is not an address`}},
		{"policy without peer", "policy test --direction import 10.0.0.0/8 --socket " + socket, []string{"--peer", "onlinkctl peers"}},
		{"policy without direction", "policy test --peer tor1 10.0.0.0/8 --socket " + socket, []string{"import or export"}},
		{"policy of nobody", "policy test --peer nobody --direction import 10.0.0.0/8 --socket " + socket, []string{"nobody", "onlinkctl peers"}},
		{"policy bad community", "policy test --peer tor1 --direction import 10.0.0.0/8 --community 7 --socket " + socket, []string{`"7"`, "AS:VALUE"}},
		{"policy bad source", "policy test --peer tor1 --direction import 10.0.0.0/8 --source own --socket " + socket, []string{"--source", "export"}},
		{"bad output", "status -o xml", []string{"xml", "table, json, yaml"}},
		{"bad timeout", "status --timeout 0s", []string{"--timeout"}},
		{"bad watch", "status --watch=-1s", []string{"--watch"}},
		{"a monitor for programs", "monitor -o json", []string{"onlinkctl status -o json"}},
		{"a monitor that watches", "monitor --watch", []string{"--interval"}},
		{"a monitor that asks too often", "monitor --interval 100ms", []string{"--interval 100ms", "500ms to 1m"}},
		{"one frame without an agent", "monitor --once --socket /nonexistent/admin.sock", []string{"/nonexistent/admin.sock", "not running"}},
		{"unknown command", "stauts", []string{"stauts"}},
		{"unknown flag", "status --al", []string{"--al"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdout, _, err := onlinkctl(t.Context(), strings.Fields(tt.args)...)
			if err == nil {
				t.Fatalf("no error; printed %q", stdout)
			}
			if stdout != "" {
				t.Errorf("printed %q", stdout)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "rpc error") {
				t.Errorf("error %q is not one line for an operator", err)
			}
		})
	}
}

func TestPermissionNamesTheGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, socket string
		gid          int
		want         string
	}{
		{"group with a name", socket, 4, `join the group "adm"`}, // adm is 4 on every Debian
		{"group without a name", socket, 54321, `join the group "54321"`},
		{"root's group", socket, 0, "api.admin.group"},
		{"closed folder", "/nonexistent/admin.sock", -1, "api.admin.group"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.gid >= 0 {
				if err := os.Chown(tt.socket, 0, tt.gid); err != nil {
					t.Fatal(err)
				}
			}
			err := socketProblem(tt.socket, fmt.Errorf("connect: %w", os.NewSyscallError("connect", syscall.EACCES)))
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.socket) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, _, err := onlinkctl(t.Context(), "version", "--socket", serve(t, &agent{}))
	if err != nil || !strings.HasPrefix(stdout, "onlinkctl: ") || !strings.Contains(stdout, "onlinkd:   v0.1.0, gobgp v3.37.0 patched\n") {
		t.Errorf("%v: %q", err, stdout)
	}
	if want := "Note:      onlinkctl is " + version.Get().Version + " and the agent v0.1.0: "; !strings.Contains(stdout, want) || !strings.Contains(stdout, "systemctl restart onlinkd") {
		t.Errorf("no %q in %q", want, stdout)
	}
	if same := skewOf(version.Get().Version); same != "" {
		t.Errorf("a skew of one version: %q", same)
	}
	stdout, _, err = onlinkctl(t.Context(), "version", "-o", "json", "--socket", serve(t, &agent{}))
	var v versions
	if err := errors.Join(err, json.Unmarshal([]byte(stdout), &v)); err != nil || v.Onlinkctl != version.Get() || v.Onlinkd == nil || *v.Onlinkd != (agentVersion{"v0.1.0", "gobgp v3.37.0 patched"}) {
		t.Errorf("%v: %q", err, stdout)
	}
	stdout, _, err = onlinkctl(t.Context(), "version", "--socket", "/nonexistent/admin.sock")
	if err != nil || !strings.Contains(stdout, "onlinkd:   unknown, the agent is not running") {
		t.Errorf("%v: %q", err, stdout)
	}
}

// TestLargestFile: an answer holds the largest configuration file, and a larger one is
// named before it is sent.
func TestLargestFile(t *testing.T) {
	t.Parallel()
	more := strings.Repeat("#", maxFile-100)
	socket := serve(t, &agent{more: more})
	stdout, _, err := onlinkctl(t.Context(), "config", "show", "--socket", socket)
	if err != nil || !strings.HasSuffix(stdout, more) {
		t.Errorf("%v, %d bytes", err, len(stdout))
	}
	path := filepath.Join(t.TempDir(), "onlinkd.yaml")
	if err := os.WriteFile(path, []byte(more+more), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = onlinkctl(t.Context(), "config", "apply", path, "--socket", socket); err == nil || !strings.Contains(err.Error(), path+" is larger than 4096 KiB; ") {
		t.Errorf("apply of 8 MiB: %v", err)
	}
}

// counter cancels after a number of writes.
type counter struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	left   int
	cancel func()
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes.Contains(p, []byte("r1n1")) || bytes.Contains(p, []byte("rr1")) {
		if c.left--; c.left == 0 {
			c.cancel()
		}
	}
	return c.buffer.Write(p)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"table", "yaml"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			service := &agent{}
			socket := serve(t, service)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			out := &counter{left: 3, cancel: cancel}
			cmd := command(func() time.Time { return clock })
			cmd.SetOut(out)
			cmd.SetErr(io.Discard)
			cmd.SetArgs([]string{"status", "--watch=10ms", "-o", format, "--socket", socket})
			if err := cmd.ExecuteContext(ctx); err != nil {
				t.Fatal(err)
			}
			if n := service.calls.Load(); n < 3 || out.left > 0 {
				t.Errorf("%d calls, %d tables too few", n, out.left)
			}
			separator := map[string]string{"table": "\n\nNode:", "yaml": "\n---\n"}[format]
			if got := strings.Count(out.buffer.String(), separator); got < 2 {
				t.Errorf("%d separators %q in:\n%s", got, separator, out.buffer.String())
			}
		})
	}
}

// TestExitCode runs the program itself.
func TestExitCode(t *testing.T) {
	t.Parallel()
	socket := serve(t, &agent{})
	tests := []struct {
		name, args string
		code       int
		stderr     string
	}{
		{"fine", "explain 10.244.1.7", 0, ""},
		{"unreachable", "explain 10.244.1.8", 1, ""},
		{"an error", "explain 10.244.1.8x", 1, "onlinkctl: \"10.244.1.8x\" is not an address; use one such as 10.244.1.7\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], append(strings.Fields(tt.args), "--socket", socket)...) //nolint:gosec // ourselves
			cmd.Env = append(os.Environ(), runMain+"=1")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint // Run returns it bare
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code || stderr.String() != tt.stderr {
				t.Errorf("exit code %d, stderr %q; want %d, %q", code, stderr.String(), tt.code, tt.stderr)
			}
		})
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		seen++
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks a description or an example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(command(time.Now))
	if seen < 10 {
		t.Errorf("only %d commands", seen)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		stdout, _, err := onlinkctl(t.Context(), "completion", shell)
		if err != nil || !strings.Contains(stdout, "onlinkctl") {
			t.Errorf("completion %s: %v", shell, err)
		}
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second:                    "0s",
		1500 * time.Millisecond:         "1s",
		3*time.Minute + 5*time.Second:   "3m5s",
		4 * time.Minute:                 "4m",
		42*time.Minute + 5*time.Second:  "42m",
		5*time.Hour + 10*time.Minute:    "5h10m",
		51 * time.Hour:                  "2d3h",
		300*time.Hour + 59*time.Minute:  "12d",
		48 * time.Hour:                  "2d",
		59*time.Minute + 59*time.Second: "59m",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %s, want %s", d, got, want)
		}
	}
}
