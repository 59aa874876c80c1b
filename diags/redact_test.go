package diags

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestKnown: a given secret is found in every form, and nothing else is touched.
func TestKnown(t *testing.T) {
	const secret = "p\"w 'ü\\x&7=/"
	r := NewRedactor(secret+"\n", "line one\nline two", "ab")
	quoted := strconv.Quote(secret)
	text, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{
		secret, quoted, string(text), url.QueryEscape(secret), url.PathEscape(secret), strings.ReplaceAll(secret, "'", "''"),
		base64.StdEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret)), "line two", "line one\nline two",
	} {
		got := string(r.Bytes([]byte("before " + form + " after")))
		if left := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(got, "before "), " after"), `"`); left != Removed && left != Removed+"\n"+Removed {
			t.Errorf("%q became %q", form, got)
		}
	}
	const plain = "peer tor1 is abroad: hold timer expired, 10.57.0.1/24 cab"
	if got := string(r.Bytes([]byte(plain))); got != plain {
		t.Errorf("%q became %q", plain, got)
	}
}

// TestPatterns: what looks like a secret is removed where it is not known, and names of
// files and counts stay.
func TestPatterns(t *testing.T) {
	r := NewRedactor()
	for _, c := range []struct{ text, want string }{
		{"-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nx", Removed + "\nx"},
		{"a -----BEGIN PRIVATE KEY-----\ncut off", "a " + Removed},
		{"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"},
		{"https://root:hunter2@etcd:2379/x", "https://" + Removed + "@etcd:2379/x"},
		{"https://etcd:2379/a@b", "https://etcd:2379/a@b"},
		{"Authorization: Bearer abcdefgh12345", "Authorization: " + Removed},
		{"x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "x " + Removed + " y"},
		{`{"password": "hunter 2", "port": 1}`, `{"password": "` + Removed + `", "port": 1}`},
		{`msg="x" etcd_password=hunter2`, `msg="x" etcd_password=` + Removed},
		{"password: correct horse, battery", "password: " + Removed},
		{"apiKey: 'it is'", "apiKey: '" + Removed + "'"},
		{"passwordFile: /etc/onlink/tor1.key", "passwordFile: /etc/onlink/tor1.key"},
		{"secretName: x", "secretName: x"},
		{"token_count=7", "token_count=7"},
		{"key: /etc/onlink/node.key", "key: /etc/onlink/node.key"},
		{"the password of the peer differs", "the password of the peer differs"},
	} {
		if got := string(r.Bytes([]byte(c.text))); got != c.want {
			t.Errorf("%q became %q, want %q", c.text, got, c.want)
		}
	}
}

// TestShownJSON: of a CNI configuration only the values of known keys are shown.
func TestShownJSON(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"10-onlink.conflist": `{"cniVersion":"1.1.0","name":"onlink","plugins":[{"type":"onlink-cni","socket":"/run/x.sock"},{"type":"tuning","sysctl":{"net.core.somaxconn":"500"},"vault":"PLANT1","deep":{"name":"PLANT2"}}]}`,
		"20-broken.conf":     `{"auth": "PLANT3"`,
		"kubeconfig":         `token: PLANT4`,
		"other.json":         `{"type":"x","mtu":1400,"list":["PLANT5"],"ipam":{"type":"host-local","pin":12345}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	err := CNI(dir).Write(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "20-broken.conf: it is no JSON") || strings.Contains(err.Error(), "PLANT") {
		t.Errorf("the broken file: %v", err)
	}
	for _, want := range []string{`"somaxconn": "500"`, `"socket": "/run/x.sock"`, `"type": "tuning"`, `"mtu": 1400`, `"type": "host-local"`} {
		if !strings.Contains(strings.ReplaceAll(out.String(), "net.core.", ""), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "PLANT") || strings.Contains(out.String(), "12345") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
}
