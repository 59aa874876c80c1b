package reload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"onlink/agent/config"
)

// TestParts: a change of a key is applied, needs a restart or is refused by the
// check of a part, as the table says.
func TestParts(t *testing.T) {
	t.Parallel()
	parts := Parts{
		{
			Name: "bgp.peers", Keys: []string{"bgp.peers", "bgp.reflector.clients"}, Apply: Live,
			Check: func(last, next *config.Effective) error {
				if len(next.BGP.Peers) > len(last.BGP.Peers)+1 {
					return errors.New("too many at once") //nolint:err113 // a test's
				}
				return nil
			},
		},
		{Name: "restart", Keys: []string{"bgp", "fib"}},
	}
	const peers = "bgp: {peers: [{address: 10.0.0.1}, {address: 10.0.0.2}]}"
	for _, c := range []struct{ name, last, next, want string }{
		{"nothing", peers, peers, ""},
		{"a key of a part", "", "bgp: {peers: [{address: 10.0.0.1}]}", ""},
		{"refused by its check", "", peers, "bgp.peers: too many at once"},
		{"below a section of another", "bgp: {reflector: {}}", "bgp: {reflector: {clients: [10.7.0.0/16]}}", ""},
		{"the section itself", "", "bgp: {reflector: {clients: [10.7.0.0/16]}}", "bgp.reflector: needs a restart"},
		{"keys of the restart", "", "bgp: {asn: 65000}\nfib: {table: 7, metric: 8}", "bgp.asn, fib.table, fib.metric: needs a restart"},
		{"a key that no part names", "", "log: {level: debug}", "log.level: needs a restart"},
		{"a key and one that cannot", "", "bgp: {peers: [{address: 10.0.0.1}]}\nfib: {table: 7}", "fib.table: needs a restart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := parts.check(effective(t, "f", c.last), effective(t, "f", c.next))
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if restart := strings.Contains(c.want, "restart"); errors.Is(err, ErrRestart) != restart {
				t.Errorf("%v is ErrRestart: %t, want %t", err, !restart, restart)
			}
		})
	}
}

// TestOwners: the most specific name of a key counts.
func TestOwners(t *testing.T) {
	t.Parallel()
	parts := Parts{{Name: "a", Keys: []string{"x.y", "z"}}, {Name: "b", Keys: []string{"x", "z"}}}
	for key, want := range map[string][]string{
		"x": {"b"}, "x.y": {"a"}, "x.y.z": {"a"}, "x.yy": {"b"}, "z.q": {"a", "b"}, "q": nil, "q.x": nil,
	} {
		if got := parts.Owners(key); !slices.Equal(got, want) {
			t.Errorf("%s belongs to %v, want %v", key, got, want)
		}
	}
}

// recorder is a table of parts that note what they are brought to.
func recorder(log *[]string, refuse string) Parts {
	var parts Parts
	for _, name := range []string{"first", "second", "third"} {
		keys := map[string][]string{"first": {"bgp.originate"}, "second": {"bgp.peers", "bgp.mesh"}}[name]
		parts = append(parts, Part{Name: name, Keys: keys, Apply: func(_ context.Context, c *config.Effective) error {
			*log = append(*log, fmt.Sprintf("%s %d", name, len(c.BGP.Peers)))
			if name == refuse && len(c.BGP.Peers) > 1 {
				return errors.New("no") //nolint:err113 // a test's
			}
			return nil
		}})
	}
	return parts
}

// TestUndo: when a part refuses, it and those before it are brought back, in
// reverse, and the configuration in force is the same value as before.
func TestUndo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		refuse, want string
		log          []string
	}{
		{"", "", []string{"first 2", "second 2", "third 2"}},
		{"first", "first: no", []string{"first 2", "first 1"}},
		{"second", "second: no", []string{"first 2", "second 2", "second 1", "first 1"}},
		{"third", "third: no", []string{"first 2", "second 2", "third 2", "third 1", "second 1", "first 1"}},
	} {
		t.Run("refused by "+c.refuse, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "f.yaml")
			old, text := "bgp: {peers: [{address: 10.0.0.1}]}\n", "bgp: {peers: [{address: 10.0.0.1}, {address: 10.0.0.2}]}\n"
			if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			var log []string
			start := effective(t, path, old)
			r := New(Setup{
				Log: slog.New(slog.DiscardHandler), File: &config.File{Path: path}, Parts: recorder(&log, c.refuse),
				Facts: func() config.Facts { return config.Facts{} },
			}, start)
			out, err := r.Change(t.Context(), Edit{Make: func([]byte) ([]byte, error) { return []byte(text), nil }})
			if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if d := cmp.Diff(c.log, log); d != "" {
				t.Errorf("parts (-want +got):\n%s", d)
			}
			got, readErr := os.ReadFile(path)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if taken := c.want == ""; out.Changed != taken || (r.Current() == start) == taken || (string(got) == text) != taken {
				t.Errorf("changed %t, in force the same %t, the file %q", out.Changed, r.Current() == start, got)
			}
		})
	}
}

// TestReadersNeverSeeAMix: whoever reads while files are taken in has one of
// them whole, and nothing writes into a value that a reader holds.
func TestReadersNeverSeeAMix(t *testing.T) {
	t.Parallel()
	text := func(n int) string {
		return fmt.Sprintf("bgp: {originate: [10.9.%d.0/24], peers: [{name: p%d, address: 10.0.0.1}, {interface: eth0}], mesh: {nodes: [10.0.0.11, {name: m%d, address: 10.0.0.12}]}}\n", n, n, n)
	}
	path := filepath.Join(t.TempDir(), "f.yaml")
	own := config.Facts{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.11")}}
	file, err := config.Parse(path, []byte(text(0)))
	if err != nil {
		t.Fatal(err)
	}
	start, err := config.Resolve(file, own)
	if err != nil {
		t.Fatal(err)
	}
	r := New(Setup{
		Log: slog.New(slog.DiscardHandler), File: &config.File{Path: path},
		Parts: recorder(new([]string), ""), Facts: func() config.Facts { return own },
	}, start)
	const rounds = 200
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range rounds {
			if err := os.WriteFile(path, []byte(text(i)), 0o600); err != nil {
				t.Error(err)
			}
			if err := r.Reread(t.Context(), "a test", false); err != nil {
				t.Error(err)
			}
			router := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})
			if err := r.SetRouters(t.Context(), func(*config.Effective) map[string]netip.Addr { return map[string]netip.Addr{"eth0": router} }); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		c := r.Current()
		n := c.BGP.Originate[0].Addr().As4()[2]
		if names := []string{c.BGP.Peers[0].Name, c.BGP.Peers[2].Name}; names[0] != fmt.Sprintf("p%d", n) || names[1] != fmt.Sprintf("m%d", n) {
			t.Fatalf("10.9.%d.0/24 with the peers %v", n, names)
		}
		select {
		case <-done:
			if got := r.Current().BGP.Peers[1].Address; got != netip.AddrFrom4([4]byte{10, 1, 0, rounds - 1}) {
				t.Errorf("the peer of eth0 has %v", got)
			}
			return
		default:
		}
	}
}

// TestNoFile: an agent without a file answers, and does not fail.
func TestNoFile(t *testing.T) {
	t.Parallel()
	r := New(Setup{Log: slog.New(slog.DiscardHandler)}, effective(t, "f", ""))
	_, _, _, textErr := r.Text()
	_, changeErr := r.Change(t.Context(), Edit{})
	for _, err := range []error{r.Reread(t.Context(), "a test", false), textErr, changeErr} {
		if !errors.Is(err, ErrNoFile) {
			t.Errorf("got %v, want %v", err, ErrNoFile)
		}
	}
}

// TestPipe: a pipe in the file's place keeps no change waiting for its writer.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan [3]error, 1)
	go func() { // an agent that waits for the pipe's writer never ends
		r := New(Setup{
			Log: slog.New(slog.DiscardHandler), File: &config.File{Path: path},
			Parts: recorder(new([]string), ""), Facts: func() config.Facts { return config.Facts{} },
		}, effective(t, "f", ""))
		_, _, _, textErr := r.Text()
		_, changeErr := r.Change(t.Context(), Edit{Make: func(old []byte) ([]byte, error) { return old, nil }})
		done <- [3]error{r.Reread(t.Context(), "a test", false), textErr, changeErr}
	}()
	select {
	case errs := <-done:
		for _, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "f.yaml: is a pipe, which can be read once; put a file there that onlinkd can read, or name another with --config") {
				t.Errorf("got %v", err)
			}
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the agent waits for the pipe's writer")
	}
}
