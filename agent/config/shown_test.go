package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// secretKeys are the keys of the schema that name a file with a secret.
func secretKeys() []string {
	var out []string
	for _, k := range schemaKeys() {
		if secretKey.MatchString(k[strings.LastIndexByte(k, '.')+1:]) {
			out = append(out, k)
		}
	}
	return out
}

// TestSecretFields: a field of the configuration that can name a secret is one that
// SecretFiles knows. A new one whose name says nothing of a secret must not have one:
// the list of all others is here, for whoever adds a key to think of it.
func TestSecretFields(t *testing.T) {
	want := []string{
		"api.admin.tls.key", "bgp.mesh.passwordFile", "bgp.peers[].passwordFile", "bgp.reflector.passwordFile", "ipam.registry.passwordFile", "ipam.registry.tls.key",
	}
	if got := secretKeys(); !slices.Equal(got, want) {
		t.Errorf("keys of secrets %v, want %v", got, want)
	}
	var fields []string
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map}, of.Kind()) {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || !strings.HasPrefix(of.PkgPath(), "onlink/") || seen[of] {
			return
		}
		seen[of] = true
		for f := range of.Fields() {
			kind := f.Type.Kind()
			if kind == reflect.String && secretKey.MatchString(f.Name) {
				fields = append(fields, of.Name()+"."+f.Name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[Config]())
	slices.Sort(fields)
	if want := []string{"Files.Key", "Peer.PasswordFile", "Reflector.PasswordFile", "RegistrySettings.PasswordFile"}; !slices.Equal(fields, want) {
		t.Errorf("fields of secrets %v, want %v: SecretFiles finds them by their names", fields, want)
	}
}

// TestSecretFiles: the files of all secrets of a configuration are found, and those that
// were sent with it.
func TestSecretFiles(t *testing.T) {
	state := t.TempDir()
	if err := os.MkdirAll(filepath.Join(state, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	sent := filepath.Join(state, "keys", "old")
	if err := os.WriteFile(sent, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("f.yaml", []byte(`
paths: {state: `+state+`}
bgp:
  reflector: {clients: [10.0.0.0/24], passwordFile: /k/clients}
  groups: {tors: {passwordFile: /k/group}}
  peers: [{address: 10.1.0.1, passwordFile: /k/peer}, {address: 10.1.0.2, asn: 65001, group: tors}]
ipam: {registry: {kind: etcd, address: "10.0.0.9:2379", user: u, passwordFile: /k/etcd, tls: {ca: /k/ca, cert: /k/cert, key: /k/key}}}
api: {admin: {tcp: "10.0.0.1:9180", tls: {ca: /k/ca, cert: /k/cert, key: /k/apikey}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{sent, "/k/apikey", "/k/clients", "/k/etcd", "/k/group", "/k/key", "/k/peer"}
	slices.Sort(want)
	if got := c.SecretFiles(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestShown: the whole default configuration with all its examples is shown, and what
// does not belong into a file is not.
func TestShown(t *testing.T) {
	text, secrets, err := Shown(examples(), "(removed)")
	if err != nil || len(secrets.Values) > 0 || !slices.Contains(secrets.Files, "/etc/onlink/tor1.key") || !slices.Contains(secrets.Files, "/etc/onlink/node.key") {
		t.Fatalf("%v, secrets %v", err, secrets)
	}
	removed := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "(removed)") {
			removed++
			t.Logf("removed: %s", line)
		}
		if strings.Contains(line, "#") {
			t.Errorf("a comment is shown: %s", line)
		}
	}
	if removed != 1 { // the sysctl of the example of a chained plugin
		t.Errorf("%d values of the examples are removed, want 1:\n%s", removed, text)
	}
	text, secrets, err = Shown([]byte(`
# PLANT1
bgp:
  asn: 64512 # PLANT2
  passwd: PLANT3
  peers:
    - address: 10.0.0.1
      passwordFile: PLANT4
      password: PLANT5
    - &PLANT6 {address: 10.0.0.2, passwordFile: /etc/k}
    - {address: {PLANT7: x}, tokens: [PLANT8]}
  groups: {tors: {asn: 65001, secret: PLANT9}}
cni: {install: {plugins: [{type: vault, pin: PLANT10}, portmap]}}
node: {labels: {rack: r1}}
? PLANT11
`), "(removed)")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "PLANT") {
		t.Errorf("shown:\n%s", text)
	}
	for _, want := range []string{"asn: 64512", "passwordFile: /etc/k", "type: vault", "rack: r1", "asn: 65001", "portmap"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if want := []string{"PLANT3", "PLANT4", "PLANT5", "PLANT9"}; !slices.Equal(secrets.Values, want) || !slices.Equal(secrets.Files, []string{"/etc/k"}) {
		t.Errorf("secrets %v, want %v", secrets, want)
	}
	if text, _, err := Shown([]byte("a: {PLANT"), "x"); err == nil || len(text) > 0 || strings.Contains(err.Error(), "PLANT") {
		t.Errorf("no YAML: %q, %v", text, err)
	}
}
