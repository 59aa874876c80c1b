package admin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"onlink/agent/config"
	"onlink/agent/logs"
	"onlink/agent/state"
	"onlink/bgp"
	"onlink/ipam"
	onlinkv1 "onlink/proto/v1"
	"onlink/rib"
)

// secretsEverywhere writes a configuration that names a file with a secret wherever one
// can be named (agent/config has a test that these are all), and returns the secrets.
// others stand where no part of the agent reads them. No function here may have "plant"
// in its name: the heap profile of the bundle names whoever allocated a sampled object.
func secretsEverywhere(t *testing.T) (text string, secrets, others []string) {
	t.Helper()
	dir := t.TempDir()
	secret := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(content) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
				secrets = append(secrets, line)
			}
		}
		return path
	}
	pem := func(mark string) string {
		return "-----BEGIN EC PRIVATE KEY-----\n" + mark + "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04\n" + mark + "hq+IDCrQ==\n-----END EC PRIVATE KEY-----\n"
	}
	secret("state/keys/sent", "plant-sent")
	conf := secret("net.d/10-onlink.conflist", `{"cniVersion":"1.1.0","name":"onlink","plugins":[{"type":"vault","pin":"plant-cni"}]}`)
	secrets = secrets[:len(secrets)-1]
	text = fmt.Sprintf(`# plant-comment
paths: {state: %s}
bgp:
  reflector: {clients: [10.0.0.0/24], passwordFile: %s}
  groups: {tors: {asn: 65001, passwordFile: %s}}
  mesh: {nodes: [10.2.0.1, 10.2.0.2], passwordFile: %s}
  peers: [{address: 10.1.0.1, passwordFile: %s}, {address: 10.1.0.2, group: tors}]
ipam: {registry: {kind: etcd, address: "10.0.0.9:2379", user: u, passwordFile: %s, tls: {ca: /k/ca, cert: /k/cert, key: %s}}}
api: {admin: {tcp: "10.0.0.1:9180", tls: {ca: /k/ca, cert: /k/cert, key: %s}}}
cni: {install: {confDir: %s, binDir: %s, plugins: [{type: vault, pin: plant-pin}]}}
`, filepath.Join(dir, "state"), secret("clients", "plant-clients"), secret("group", "plant-group"), secret("mesh", "plant-mesh\n"), secret("peer", "plant \"peer\"'s\nand more plants\n"),
		secret("etcd", "plant-etcd"), secret("registry.key", pem("plantR")), secret("api.key", pem("plantA")), filepath.Dir(conf), dir)
	return text, secrets, []string{"plant-comment", "plant-pin", "plant-cni"}
}

// unpack returns the files of a bundle, those that are packed themselves unpacked.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(b))
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
		if err == nil && strings.HasSuffix(h.Name, ".gz") {
			var inner *gzip.Reader
			if inner, err = gzip.NewReader(bytes.NewReader(text)); err == nil {
				text, err = io.ReadAll(inner)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(text)
	}
}

// bundleOf returns the bundle of an agent, and the names of its parts.
func bundleOf(t *testing.T, b *bed) (files map[string]string, parts []string) {
	t.Helper()
	var got bytes.Buffer
	err := process{s: b.server(t)}.bundle(t.Context(), func(m *onlinkv1.DiagsChunk) error {
		if len(m.GetData()) > bundleChunk || (m.GetPart() == "") != (len(m.GetData()) > 0) {
			t.Errorf("a message of %d bytes of %q", len(m.GetData()), m.GetPart())
		}
		if m.GetPart() != "" {
			parts = append(parts, m.GetPart())
		}
		got.Write(m.GetData())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, got.Bytes()), parts
}

// TestBundleHasNoSecret: secrets stand in every file that a configuration can name, in
// the configuration of a container runtime, and in what the parts of the agent say of
// them; the bundle has none, in no form.
func TestBundleHasNoSecret(t *testing.T) {
	text, secrets, others := secretsEverywhere(t)
	c, err := config.Parse("onlinkd.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	log := logs.New(io.Discard, slog.LevelInfo, false)
	b := &bed{
		logs: log, text: text, config: c,
		snapshot:   &state.Snapshot{Found: secrets},
		registered: []ipam.Block{{CIDR: netip.MustParsePrefix("10.244.0.0/26"), Node: secrets[0]}},
	}
	addr := netip.MustParseAddr("10.1.0.1")
	for _, s := range secrets {
		b.peers = append(b.peers, bgp.PeerStatus{Name: "tor", Address: addr, State: "Idle", LastError: "the key " + s + " differs"})
		addr = addr.Next()
		b.routes = append(b.routes, rib.Route{Prefix: netip.PrefixFrom(addr, 32)})
		b.failed = map[netip.Prefix]string{netip.PrefixFrom(addr, 32): "because of " + s}
		b.audit = append(b.audit, ipam.AuditEntry{Action: "x", Target: s, By: "root"})
		log.Logger().Warn("failed", "err", fmt.Sprintf("%q", s), "again", s)
	}
	files, _ := bundleOf(t, b)
	for name, got := range files {
		for _, s := range slices.Concat(secrets, others, []string{"plant"}) {
			if strings.Contains(got, s) {
				i := strings.Index(got, s)
				t.Errorf("%s has %q: ...%q...", name, s, got[max(0, i-40):min(len(got), i+40)])
			}
		}
	}
	for name, want := range map[string]string{
		"agent/config.yaml": "passwordFile:", "agent/log.txt": "msg=failed", "agent/peers.json": "differs", "agent/status.json": `"problems"`, "agent/routes.txt": "because of",
		"cni/configuration.txt": `"type": "vault"`, "agent/registry.json": "10.244.0.0/26", "process/goroutines.txt": "goroutine profile:", "agent/metrics.txt": "onlink_up 1",
		"kernel/links.txt": "lo ", "kernel/sysctls.txt": "net/ipv4/ip_forward = ", "versions.txt": "onlinkd v1", "agent/peers-in-detail.json": "peer", "agent/audit.json": `"action"`,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %.300s", name, want, files[name])
		}
	}
	if strings.Contains(files["kernel/sysctls.txt"], "stable_secret") || strings.Contains(files["kernel/sysctls.txt"], "tcp_fastopen_key") {
		t.Error("the kernel's keys are in the bundle")
	}
}

// TestBundleOfABrokenAgent: parts of the agent that fail leave their reason, and the
// others are there; the audit's fault does not matter.
func TestBundleOfABrokenAgent(t *testing.T) {
	b := &bed{err: errors.New("the learn loop is gone"), config: config.Default(), snapshot: &state.Snapshot{}, noteErr: errors.New("disk full")}
	files, parts := bundleOf(t, b)
	for _, name := range []string{"agent/status.json", "agent/routes.txt", "agent/ipam-check.json"} {
		if !strings.Contains(files[name+".failed.txt"], "the learn loop is gone") {
			t.Errorf("%s: %q", name, files[name+".failed.txt"])
		}
	}
	wrong, _ := bundleOf(t, &bed{text: "bgp: {asn: x", config: config.Default(), snapshot: &state.Snapshot{}})
	if !strings.Contains(wrong["agent/config.yaml.failed.txt"], "not valid YAML") {
		t.Errorf("the file: %q", wrong["agent/config.yaml.failed.txt"])
	}
	for _, p := range parts {
		if _, there := files[p]; !there && files[p+".failed.txt"] == "" {
			t.Errorf("%s is not in the bundle", p)
		}
		if !strings.Contains(files["index.txt"], p+" ") {
			t.Errorf("%s is not in the index", p)
		}
	}
	process{s: b.server(t)}.noteBundle(t.Context()) // returns
	s := b.server(t)
	v := &visitor{name: "alice", key: "alice"}
	end, err := s.bundles.begin(v)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	_, err = s.bundles.begin(v)
	wantCode(t, err, codes.ResourceExhausted)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (process{s: s}).bundle(ctx, func(*onlinkv1.DiagsChunk) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

// scraped is a scrape of one metric.
var scraped = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, "onlink_up 1\n") //nolint:errcheck,gosec // a test's
})
