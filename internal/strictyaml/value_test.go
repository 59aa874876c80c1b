package strictyaml

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the expected messages under testdata")

// compare sees netip's values as such.
var compare = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})

// web is a configuration of nothing in particular, with every kind of value.
type web struct {
	Name, Folder, Backend, Mode string
	Backends                    []string
	On                          bool
	Workers                     int
	Pause, Hold                 time.Duration
	Addr, Source                netip.Addr
	Net                         netip.Prefix
	Nets, Hosts                 []netip.Prefix
	Listen, Metrics             netip.AddrPort
	Labels                      map[string]string
	Limits                      *limits
	Servers                     []server
}

type limits struct{ Rate uint8 }

type server struct {
	Name string
	Port uint16
}

// readWeb is its schema.
func readWeb(v Value, c *web) {
	v.Mapping(Fields{
		"name": Word(&c.Name), "folder": File(&c.Folder), "backend": HostPort(&c.Backend), "backends": Some(func(v Value) {
			var s string
			if HostPort(&s)(v); s != "" {
				c.Backends = append(c.Backends, s)
			}
		}),
		"mode": OneOf(&c.Mode, "fast", "safe"), "on": Bool(&c.On), "workers": Number(&c.Workers, 1, 64),
		"pause": Duration(&c.Pause, time.Second, time.Hour), "hold": Seconds(&c.Hold, 3*time.Second, time.Minute),
		"addr": Addr(&c.Addr), "source": Addr(&c.Source, "auto"), "net": Prefix(&c.Net), "nets": Prefixes(&c.Nets),
		"hosts": PrefixesOrAddrs(&c.Hosts), "listen": AddrPort(&c.Listen), "metrics": AddrPort(&c.Metrics, "off"),
		"labels": func(v Value) {
			v.Pairs(func(key string, child Value) {
				if s, ok := child.Text("a word"); ok {
					c.Labels[key] = s
				}
			})
		},
		"limits": func(v Value) {
			c.Limits = &limits{}
			v.Mapping(Fields{"rate": Number(&c.Limits.Rate, 0, 255)})
		},
		"servers": func(v Value) {
			v.List(func(v Value) {
				s := server{Port: 80}
				v.Mapping(Fields{"name": Word(&s.Name), "port": Number(&s.Port, 1, 65535)})
				if s.Name == "" && !v.Failed() {
					v.FailKey("name", "is missing; write one")
				}
				c.Servers = append(c.Servers, s)
			})
		},
	})
}

func parseWeb(data string) (*web, *Document) {
	c := &web{Labels: map[string]string{}, Metrics: netip.MustParseAddrPort("127.0.0.1:1"), Source: netip.MustParseAddr("192.0.2.1")}
	d := Parse("web.yaml", []byte(data), func(v Value) { readWeb(v, c) })
	return c, d
}

func TestValues(t *testing.T) {
	t.Parallel()
	got, d := parseWeb(`
name: a b
folder: /var//www/
backend: db.example:5432
backends: ["[::1]:1", "10.0.0.1:2"]
mode: safe
on: true
workers: 64
pause: 1500ms
hold: 1m
addr: "::ffff:10.0.0.1"
source: auto
net: 10.0.0.0/8
nets: [10.0.0.0/8, "fd00::/64"]
hosts: [10.0.0.1, "fd00::1", 10.1.0.0/16]
listen: :80
metrics: off
labels: {rack: r1, row: 7}
limits: {rate: 0}
servers:
  - name: one
  - &two {name: two, port: 81}
  - *two
`)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	pfx := netip.MustParsePrefix
	want := &web{
		Name: "a b", Folder: "/var/www", Backend: "db.example:5432", Backends: []string{"[::1]:1", "10.0.0.1:2"}, Mode: "safe", On: true,
		Workers: 64, Pause: 1500 * time.Millisecond, Hold: time.Minute, Addr: netip.MustParseAddr("10.0.0.1"), Net: pfx("10.0.0.0/8"),
		Nets: []netip.Prefix{pfx("10.0.0.0/8"), pfx("fd00::/64")}, Hosts: []netip.Prefix{pfx("10.0.0.1/32"), pfx("fd00::1/128"), pfx("10.1.0.0/16")},
		Listen: netip.MustParseAddrPort("[::]:80"), Labels: map[string]string{"rack": "r1", "row": "7"}, Limits: &limits{},
		Servers: []server{{"one", 80}, {"two", 81}, {"two", 81}},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEmptyKeepsDefaults: no file, no key and a key without a value are the
// same.
func TestEmptyKeepsDefaults(t *testing.T) {
	t.Parallel()
	want, _ := parseWeb("")
	for _, data := range []string{"# nothing\n", "---\n", "{}", "null", "workers:\nservers:\nmetrics: null\nlabels: ~\n"} {
		got, d := parseWeb(data)
		if diff := cmp.Diff(want, got, compare); diff != "" || d.Err() != nil {
			t.Errorf("%q: %v (-want +got):\n%s", data, d.Err(), diff)
		}
	}
}

// TestMistakes runs every testdata/*.txt: a file, a line "-- errors --" and the
// exact messages that it gives, each with what to write instead.
func TestMistakes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("only %d scenarios: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(text), "-- errors --\n")
			if !found {
				t.Fatal("no line -- errors --")
			}
			got := ""
			if _, d := parseWeb(input); d.Err() != nil {
				got = d.Err().Error() + "\n"
			}
			if *update {
				if err := os.WriteFile(name, []byte(input+"-- errors --\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(got) {
				if !strings.ContainsAny(line, ";?") {
					t.Errorf("no fix in %q", line)
				}
			}
		})
	}
}

// TestKeys: the keys of the schema without a file, which leaves the defaults.
func TestKeys(t *testing.T) {
	t.Parallel()
	c := &web{Labels: map[string]string{}}
	got := Keys(func(v Value) { readWeb(v, c) })
	want := []string{
		"addr", "backend", "backends", "folder", "hold", "hosts", "labels", "limits", "limits.rate", "listen", "metrics", "mode",
		"name", "net", "nets", "on", "pause", "servers", "servers[].name", "servers[].port", "source", "workers",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if c.Workers != 0 || c.Name != "" || len(c.Servers) != 1 {
		t.Errorf("the reader was given values: %+v", c)
	}
}

// TestWith: a mapping with the keys of another that it does not have.
func TestWith(t *testing.T) {
	t.Parallel()
	const text = `
own: {name: own, limits: {rate: 1}, nets: [10.0.0.0/8], labels: }
more: &m {name: more, mode: fast, limits: {rate: 2, burst: 3}, nets: [10.1.0.0/16], labels: {a: b}}
alias: *m
`
	want := map[string]any{
		"name": "own", "mode": "fast", "limits": map[string]any{"rate": 1, "burst": 3}, "nets": []any{"10.0.0.0/8"}, "labels": nil,
	}
	for _, from := range []string{"more", "alias"} {
		d := Parse("f", []byte(text), func(v Value) {
			own, ok := v.Get("own")
			more, known := v.Get(from)
			if _, none := v.Get("nothing"); !ok || !known || none {
				t.Errorf("own %t, %s %t, nothing %t", ok, from, known, none)
			}
			var got, after map[string]any
			if err := errors.Join(own.With(more).Decode(&got), own.Decode(&after)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with %s (-want +got):\n%s", from, diff)
			}
			if len(after) != 4 {
				t.Errorf("the mapping itself has %v now", after)
			}
		})
		if d.Err() != nil {
			t.Error(d.Err())
		}
	}
}

// TestScalar: a value from outside the file, by its name there.
func TestScalar(t *testing.T) {
	t.Parallel()
	_, d := parseWeb("workers: 3")
	n := 0
	Number(&n, 1, 9)(d.Scalar("--workers", "7"))
	Number(&n, 1, 9)(d.Scalar("--more", "70"))
	if want := "web.yaml: --more: 70 is out of range; use 1 to 9"; n != 7 || d.Err() == nil || d.Err().Error() != want {
		t.Errorf("%d, %v; want 7, %s", n, d.Err(), want)
	}
}

// TestPlaces: a mistake that is found later stands at the line of its field or
// of the nearest one around it.
func TestPlaces(t *testing.T) {
	t.Parallel()
	_, d := parseWeb("name: a\nservers:\n  - name: x\n    port: 7\n  - {name: y}\n")
	for path, line := range map[string]int{
		"name": 1, "servers": 2, "servers[0].port": 4, "servers[1]": 5, "servers[1].port": 5, "servers[9].port": 2, "limits.rate": 0,
	} {
		if e := d.Places().Mistake(path, "is %s; use another", "odd"); e.Line != line || e.Field != path || e.File != "web.yaml" || !errors.Is(e, ErrInvalid) {
			t.Errorf("%s: %v, want line %d", path, e, line)
		}
	}
}
