package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"onlink/diags"
	onlinkv1 "onlink/proto/v1"
)

func (s *agent) CollectDiags(_ *onlinkv1.CollectDiagsRequest, to grpc.ServerStreamingServer[onlinkv1.DiagsChunk]) error {
	var whole bytes.Buffer
	b := diags.New(&whole, "onlink-diags-r1n1", diags.NewRedactor())
	for _, name := range []string{"versions.txt", "agent/log.txt"} {
		if err := b.Add(to.Context(), diags.Part{Name: name, Write: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, name+" of the agent")
			return err
		}}); err != nil {
			return err
		}
	}
	half := whole.Len()
	if err := b.Close(); err != nil {
		return err
	}
	if !s.dies {
		half = whole.Len()
	}
	for rest := whole.Bytes()[:half]; len(rest) > 0; {
		n := min(100, len(rest))
		if err := errors.Join(to.Send(&onlinkv1.DiagsChunk{Part: "agent/log.txt"}), to.Send(&onlinkv1.DiagsChunk{Data: rest[:n]})); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if s.dies {
		return status.Error(codes.Unavailable, "the process ends")
	}
	return nil
}

// filesOf returns the files of a bundle.
func filesOf(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(text)
	}
}

// TestDiags: the agent's bundle becomes a file; of an agent that is absent or breaks off
// this machine has its own parts, without the secrets that its configuration names.
func TestDiags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, config := filepath.Join(dir, "tor.key"), filepath.Join(dir, "onlinkd.yaml")
	for name, text := range map[string]string{
		secret: "hunter2\n",
		config: "bgp: {peers: [{address: 10.0.0.1, passwordFile: " + secret + "}], asn: hunter2}\npaths: {state: " + dir + ", run: " + dir + "}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, socket string
		local        bool
		stderr       string
	}{
		{"whole", serve(t, &agent{}), false, ""},
		{"breaks off", serve(t, &agent{dies: true}), true, "closed the connection: the process ends"},
		{"absent", "/nonexistent/admin.sock", true, "the agent is not running"},
		{"old", serve(t, onlinkv1.UnimplementedAdminServer{}), true, "older than onlinkctl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "b.tar.gz")
			stdout, stderr, err := onlinkctl(t.Context(), "diags", "-o", file, "--config", config, "--socket", c.socket)
			if err != nil || !strings.Contains(stdout, file+" is written") || c.stderr == "" && stderr != "" || !strings.Contains(stderr, c.stderr) {
				t.Fatalf("stdout %q, stderr %q, error %v", stdout, stderr, err)
			}
			got := filesOf(t, file)
			if whole := !c.local || c.name == "breaks off"; whole != (got["agent/log.txt"] == "agent/log.txt of the agent") {
				t.Errorf("the agent's log is %q", got["agent/log.txt"])
			}
			if c.local != strings.Contains(got["local/kernel/links.txt"], "lo ") || c.local != strings.Contains(got["local/agent/config.yaml"], "passwordFile: "+secret) {
				t.Errorf("this machine's parts: %.80q and %q", got["local/kernel/links.txt"], got["local/agent/config.yaml"])
			}
			if !strings.Contains(got["onlinkctl.txt"], c.socket) || c.local != strings.Contains(got["local/agent.failed.txt"], c.stderr) && c.local {
				t.Errorf("%q, %q", got["onlinkctl.txt"], got["local/agent.failed.txt"])
			}
			for name, text := range got {
				if strings.Contains(text, "hunter2") {
					t.Errorf("the secret is in %s", name)
				}
			}
			if _, _, err := onlinkctl(t.Context(), "diags", "-o", file, "--socket", c.socket); err == nil || !strings.Contains(err.Error(), "exists") {
				t.Errorf("a second bundle in its place: %v", err)
			}
		})
	}
}

// TestDiagsHangs: an agent that falls silent is given up.
func TestDiagsHangs(t *testing.T) {
	t.Parallel()
	in := &bundleReader{from: silent{stop: make(chan struct{})}, wait: 1}
	in.end = func() { close(in.from.(silent).stop) }
	if _, err := in.Read(make([]byte, 10)); err == nil || !in.late {
		t.Errorf("read with %v, late: %v", err, in.late)
	}
}

// silent is a stream without a message until it is ended.
type silent struct {
	grpc.ServerStreamingClient[onlinkv1.DiagsChunk]

	stop chan struct{}
}

func (s silent) Recv() (*onlinkv1.DiagsChunk, error) {
	<-s.stop
	return nil, context.Canceled
}

// TestDiagsElsewhere: of another machine nothing is collected here, and no half file is
// left.
func TestDiagsElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "b.tar.gz")
	a := &app{server: "127.0.0.1:1", timeout: defaultTimeout, now: time.Now}
	cmd := diagsCommand(a)
	cmd.SetContext(t.Context())
	if err := a.diags(cmd, file, "/nonexistent"); err == nil {
		t.Error("a bundle of an agent that is not there")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", slices.Collect(func(yield func(string) bool) {
			for _, e := range left {
				yield(e.Name())
			}
		}), err)
	}
	if a.host() != "127.0.0.1" {
		t.Errorf("the name of the node is %q", a.host())
	}
}
