package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: Parse never panics, every error is a list of mistakes with a text,
// and an accepted file gives usable values.
func FuzzParse(f *testing.F) {
	f.Add(DefaultYAML())
	f.Add([]byte(full))
	files, err := filepath.Glob("testdata/bad/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "-- errors --\n")
		f.Add([]byte(input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("onlinkd.yaml", data)
		if err != nil {
			var list Errors
			if !errors.As(err, &list) || len(list) == 0 || c != nil {
				t.Fatalf("error %T with %d mistakes", err, len(list))
			}
			for _, e := range list {
				if e.Text == "" || e.File == "" {
					t.Errorf("mistake without text: %+v", e)
				}
			}
			return
		}
		if c.Node.Name == "" || c.BGP.ASN == 0 || c.CNI.Socket == "" || c.API.Admin.Socket == "" {
			t.Errorf("accepted with empty values: %+v", c)
		}
		for _, p := range c.BGP.Peers {
			if !p.Address.IsValid() || p.Name == "" || p.ASN == 0 || p.Keepalive <= 0 || 3*p.Keepalive > p.HoldTime {
				t.Errorf("accepted peer %+v", p)
			}
		}
		for _, p := range c.Pools {
			if !p.CIDR.IsValid() || p.BlockSize < p.CIDR.Bits() || p.Encapsulation == "" || p.Tunnel == "" {
				t.Errorf("accepted pool %+v", p)
			}
		}
	})
}
