package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"onlink/internal/tlsfiles"
	onlinkv1 "onlink/proto/v1"
)

// present makes certificates that are valid now: the clock of the other tests is in
// the past.
func present(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	cmd := command(time.Now)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// authority makes an authority in a folder of its own.
func authority(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if out, err := present(t, "pki", "init", "--dir", dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// issued makes a certificate, and returns its files.
func issued(t *testing.T, dir string, args ...string) tlsfiles.Files {
	t.Helper()
	out := t.TempDir()
	if text, err := present(t, append([]string{"pki", "issue", "--dir", dir, "--out", out}, args...)...); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	certs, err := filepath.Glob(filepath.Join(out, "*.crt"))
	if err != nil || len(certs) != 1 {
		t.Fatalf("%v, %v", certs, err)
	}
	return tlsfiles.Files{Cert: certs[0], Key: strings.TrimSuffix(certs[0], "crt") + "key", CA: filepath.Join(dir, "ca.crt")}
}

// TestPKI makes certificates as an operator does; no file is replaced, and keys are
// their owner's alone.
func TestPKI(t *testing.T) {
	t.Parallel()
	dir := authority(t)
	out, err := present(t, "pki", "issue", "--dir", dir, "--role", "node", "--name", "r1n1", "--ip", "10.57.1.11,fd00::1", "--dns", "r1n1.example.com", "--days", "30")
	if err != nil || !strings.Contains(out, "r1n1.crt: onlink://node/r1n1, valid until ") || !strings.Contains(out, "r1n1.key: its private key") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, key := range []string{"ca.key", "r1n1.key"} {
		if info, err := os.Stat(filepath.Join(dir, key)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info.Mode(), err)
		}
	}
	for _, again := range [][]string{{"pki", "init", "--dir", dir}, {"pki", "issue", "--dir", dir, "--role", "viewer", "--name", "r1n1"}} {
		if _, err := present(t, again...); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%v: %v, want that the file is there", again, err)
		}
	}
	out, err = present(t, "pki", "show", filepath.Join(dir, "r1n1.crt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Subject:     CN=r1n1\n", "Role:        onlink://node/r1n1\n", "DNS:         r1n1.example.com, r1n1\n", "IP:          10.57.1.11, fd00::1\n",
		"Issuer:      CN=onlink CA\n", " 29 days left\n", "Fingerprint: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, err = present(t, "pki", "show", filepath.Join(dir, "ca.crt"), "-o", "json")
	var list []shown
	if jerr := json.Unmarshal([]byte(out), &list); err != nil || jerr != nil || len(list) != 1 || !list[0].Authority || list[0].Days < 3648 || len(list[0].Fingerprint) != 64 {
		t.Errorf("%v, %v: %s", err, jerr, out)
	}
	out, err = present(t, "pki", "issue", "--dir", dir, "--role", "node", "--role", "operator", "--name", "rr1", "--algorithm", "ed25519")
	if err != nil || !strings.Contains(out, "onlink://node/rr1, onlink://operator/rr1") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPKIErrors: an error names the flag and what to write.
func TestPKIErrors(t *testing.T) {
	t.Parallel()
	dir := authority(t)
	for _, c := range []struct {
		name, args, want string
	}{
		{"no role", "pki issue --name a", "--role and --name are missing"},
		{"unknown role", "pki issue --role admin --name a", `--role: unknown role "admin"; use viewer, operator or node`},
		{"bad name", "pki issue --role node --name a/b", "--name: the name \"a/b\" has a space, a slash"},
		{"a path", "pki issue --role node --name ..", "begins with a dot"},
		{"bad address", "pki issue --role node --name a --ip here", `--ip: "here" is not an address`},
		{"bad DNS", "pki issue --role node --name a --dns *.x", "is no DNS name"},
		{"no days", "pki issue --role node --name a --days 0", "--days 0: use 1 to 36500"},
		{"too many days", "pki issue --role node --name a --days 9000", "the authority's own certificate ends on"},
		{"algorithm", "pki issue --role node --name a --algorithm rsa", `unknown algorithm "rsa"; use p256 or ed25519`},
		{"no authority", "pki issue --role node --name a --ca-key /nonexistent/k", "read the authority: open /nonexistent/k"},
		{"show of a key", "pki show " + filepath.Join(dir, "ca.key"), "no certificate in PEM form"},
		{"show of nothing", "pki show /nonexistent/a.crt", "/nonexistent/a.crt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields(c.args)
			if args[1] == "issue" {
				args = append(args, "--dir", dir)
			}
			if out, err := present(t, args...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q; printed %q", err, c.want, out)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestServer: every command works over mutual TLS; what is wrong is told by the end
// that is at fault.
func TestServer(t *testing.T) {
	dir, other := authority(t), authority(t)
	server := issued(t, dir, "--role", "node", "--name", "r1n1", "--ip", "127.0.0.1")
	alice := issued(t, dir, "--role", "operator", "--name", "alice")
	stranger := issued(t, other, "--role", "operator", "--name", "mallory")
	keeper, err := server.Open()
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(keeper.Server())))
	onlinkv1.RegisterAdminServer(srv, &agent{})
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	at := lis.Addr().String()
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	flags := func(f tlsfiles.Files) []string {
		return []string{"--tls-ca", f.CA, "--tls-cert", f.Cert, "--tls-key", f.Key}
	}
	for _, args := range []string{"status", "monitor --once", "peers tor1 disable", "explain 10.244.1.7", "ipam backup " + filepath.Join(t.TempDir(), "copy"), "version"} {
		out, _, err := onlinkctl(t.Context(), append(append(strings.Fields(args), "--server", at), flags(alice)...)...)
		if err != nil || strings.Contains(out, "unknown") {
			t.Errorf("%s: %v, %q", args, err, out)
		}
	}
	trusting := stranger // its certificate is of another authority, and it trusts ours
	trusting.CA = alice.CA
	for _, c := range []struct {
		name, server string
		files        tlsfiles.Files
		want         []string
	}{
		{"another authority's agent", at, stranger, []string{"CN=r1n1", at, "not accepted", "--tls-ca " + stranger.CA}},
		{"another authority's operator", at, trusting, []string{at, "rejects the certificate " + trusting.Cert, "onlinkctl pki show"}},
		{"another name", "localhost:" + port, alice, []string{"CN=r1n1", "localhost", "--dns or --ip"}},
		{"no agent", "127.0.0.1:1", alice, []string{"no process listens on 127.0.0.1:1", "api.admin.tcp"}},
		{"no port", "r1n1", alice, []string{`"r1n1" is not host:port`, "r1n1:9180"}},
		{"no files", at, tlsfiles.Files{}, []string{"--tls-ca", "ONLINK_TLS_CA", "onlinkctl pki issue"}},
		{"files that are not there", at, tlsfiles.Files{CA: "/nonexistent", Cert: "/nonexistent", Key: "/nonexistent"}, []string{"/nonexistent", "--tls-cert"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := onlinkctl(t.Context(), append([]string{"status", "--server", c.server}, flags(c.files)...)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
			}
		})
	}
	for name, args := range map[string][]string{
		"two agents":        append([]string{"status", "--server", at, "--socket", "/x"}, flags(alice)...),
		"TLS for a socket":  {"status", "--socket", "/x", "--tls-ca", "/y"},
		"TLS for no server": {"status", "--tls-ca", "/y"},
	} {
		if _, _, err := onlinkctl(t.Context(), args...); err == nil || !strings.Contains(err.Error(), "--server") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for key, value := range map[string]string{"ONLINK_SERVER": at, "ONLINK_TLS_CA": alice.CA, "ONLINK_TLS_CERT": alice.Cert, "ONLINK_TLS_KEY": alice.Key} {
		t.Setenv(key, value)
	}
	if out, _, err := onlinkctl(t.Context(), "status"); err != nil || !strings.Contains(out, "r1n1") {
		t.Errorf("by the environment: %v, %q", err, out)
	}
	if _, _, err := onlinkctl(t.Context(), "status", "--socket", "/nonexistent/admin.sock"); err == nil || !strings.Contains(err.Error(), "/nonexistent/admin.sock") {
		t.Errorf("a socket that is given: %v", err)
	}
}
