package bmp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/internal/strictyaml"
)

// parse reads a list of stations as the file's section.
func parse(text string) ([]Settings, error) {
	var list []Settings
	d := strictyaml.Parse("f.yaml", []byte(text), func(v strictyaml.Value) {
		v.Mapping(strictyaml.Fields{"bmp": func(v strictyaml.Value) {
			v.List(func(v strictyaml.Value) { list = append(list, ReadSettings(v)) })
		}})
	})
	Validate(list, "bmp", d)
	return list, d.Err()
}

func TestSettings(t *testing.T) {
	t.Parallel()
	list, err := parse("bmp:\n- {address: 10.99.0.9, port: 11019}\n- {name: six, address: '2001:db8::9', port: 5000, monitor: [best, received], statistics: 0s, sourceAddress: '2001:db8::1'}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Settings{
		{Name: "10.99.0.9:11019", Address: netip.MustParseAddr("10.99.0.9"), Port: 11019, Monitor: []View{Received}, Statistics: time.Minute},
		{Name: "six", Address: netip.MustParseAddr("2001:db8::9"), Port: 5000, Monitor: []View{Best, Received}, SourceAddress: netip.MustParseAddr("2001:db8::1")},
	}
	if !slices.EqualFunc(list, want, func(a, b Settings) bool { return a.equal(&b) }) {
		t.Errorf("%+v, want %+v", list, want)
	}
}

// TestMistakes: each names the line, the field and the fix, and what depends on a
// mistake is not another one.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, entries, want string }{
		{"no address", "- {port: 1}", "bmp[0].address: is missing; write the IP address"},
		{"no port", "- {address: 10.0.0.1}", "bmp[0].port: is missing; write the TCP port"},
		{"not an address", "- {address: collector.example, port: 1}", "bmp[0].address: \"collector.example\""},
		{"no collector's address", "- {address: 0.0.0.0, port: 1}", "0.0.0.0 is not the address of a collector"},
		{"unknown table", "- {address: 10.0.0.1, port: 1, monitor: [receive]}", "\"receive\" is not known; did you mean"},
		{"a table twice", "- {address: 10.0.0.1, port: 1, monitor: [best, best]}", "bmp[0].monitor[1]: best is in the list already"},
		{"too often", "- {address: 10.0.0.1, port: 1, statistics: 1s}", "1s is out of range; use 0s for no reports, or 10s to 1h0m0s"},
		{"two families", "- {address: 10.0.0.1, port: 1, sourceAddress: 'fd00::1'}", "bmp[0].sourceAddress: fd00::1 is of another family"},
		{"one name twice", "- {name: a, address: 10.0.0.1, port: 1}\n- {name: a, address: 10.0.0.1, port: 2}", "bmp[1].name: \"a\" is also the name of bmp[0]"},
		{"one collector twice", "- {name: a, address: 10.0.0.1, port: 1}\n- {name: b, address: 10.0.0.1, port: 1}", "bmp[1].address: 10.0.0.1:1 is also the station bmp[0]"},
		{"too many", strings.Repeat("- {address: 10.0.0.1, port: 1}\n", MaxStations+1), "has 5 stations; use at most 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse("bmp:\n" + tt.entries + "\n")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "f.yaml:") {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if n := strings.Count(err.Error(), "\n"); n > 0 && tt.name != "too many" {
				t.Errorf("more than one mistake: %v", err)
			}
		})
	}
}
