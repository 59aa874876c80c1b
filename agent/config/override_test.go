package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverride: the command line's settings of the node win over the file, and a
// mistake in them names the flag.
func TestOverride(t *testing.T) {
	path := filepath.Join(t.TempDir(), "onlinkd.yaml")
	if err := os.WriteFile(path, []byte("node: {name: file, address: eth7}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flag := func(v string) Setting { return Setting{Value: v, From: "--flag"} }
	tests := []struct {
		name          string
		node          Override
		host, address string
		mistake       string
	}{
		{"nothing", Override{}, "file", "eth7", ""},
		{"name", Override{Name: flag("worker1")}, "worker1", "eth7", ""},
		{"address", Override{Address: flag("10.1.2.3")}, "file", "10.1.2.3", ""},
		{"address auto", Override{Address: flag("auto")}, "file", "auto", ""},
		{"CIDR", Override{Address: flag("10.1.0.0/16")}, "file", "10.1.0.0/16", ""},
		{"no address", Override{Address: flag("127.0.0.1")}, "", "", `--flag: "127.0.0.1" cannot be a next hop`},
		{"blank name", Override{Name: flag(" ")}, "", "", "--flag: is empty"},
		{"inside a pool", Override{Address: flag("10.244.0.9")}, "", "", "is inside pools[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := File{Path: path, Node: tt.node}.Load()
			if tt.mistake != "" {
				if list := Errors(nil); !errors.As(err, &list) || !strings.Contains(err.Error(), tt.mistake) {
					t.Fatalf("error %v, want one with %q", err, tt.mistake)
				}
				return
			}
			if err != nil || c.Node.Name != tt.host || c.Node.Address.String() != tt.address {
				t.Fatalf("got %+v (%v), want %s at %s", c.Node, err, tt.host, tt.address)
			}
		})
	}
}
