package dump

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestWhole: an interrupted list is asked for again, with a bound; another
// error ends it at once.
func TestWhole(t *testing.T) {
	other := errors.New("another error")
	for _, c := range []struct {
		name        string
		interrupted int // times, then last
		last        error
		asked       int
		want        error
	}{
		{"at once", 0, nil, 1, nil},
		{"the third time", 2, nil, 3, nil},
		{"never", tries, nil, tries, ErrInterrupted},
		{"an error", 1, other, 2, other},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			got, err := whole("numbers", func() (int, error) {
				asked++
				if asked <= c.interrupted {
					return asked, netlink.ErrDumpInterrupted
				}
				return asked, c.last
			})
			if asked != c.asked || got != c.asked || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("asked %d times, got %d, %v; want %d times and %v", asked, got, err, c.asked, c.want)
			}
		})
	}
}

// TestChurn lists links while others come and go, until the library alone would
// have failed many times.
func TestChurn(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace (are we root?): %v", err)
	}
	open := func() *netlink.Handle {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Close)
		return h
	}
	h := open()
	for i := range 40 {
		if err := h.LinkAdd(pair(fmt.Sprintf("v%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan error, 2)
	for k := range cap(stopped) {
		other, link := open(), pair(fmt.Sprintf("x%d", k)) // its socket is in this namespace
		go func() {
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				default:
				}
				if err := errors.Join(other.LinkAdd(link), other.LinkDel(link)); err != nil {
					stopped <- err
					return
				}
			}
		}()
	}
	const enough = 20
	bare := 0
	for end := time.Now().Add(10 * time.Second); bare < enough && time.Now().Before(end); {
		if _, err := h.LinkList(); errors.Is(err, netlink.ErrDumpInterrupted) {
			bare++
		}
		links, err := Links(h)
		if err != nil {
			t.Fatal(err)
		}
		if len(links) < 81 { // the loopback device and 40 pairs
			t.Fatalf("%d links of 81", len(links))
		}
	}
	close(stop)
	for range cap(stopped) {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
	if bare < enough {
		t.Fatalf("only %d lists of the library were interrupted: nothing was tried", bare)
	}
}

func pair(name string) netlink.Link {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
}

// lists are the library's functions that list a table.
var lists = map[string]bool{
	"LinkList": true, "AddrList": true, "NeighList": true, "NeighListExecute": true, "NeighProxyList": true,
	"RouteList": true, "RouteListFiltered": true, "RouteListFilteredIter": true, "RuleList": true, "RuleListFiltered": true,
}

// TestOnlyHere: nothing outside this package calls the library's lists.
func TestOnlyHere(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == "integration" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || !lists[s.Sel.Name] {
				return true
			}
			if found++; filepath.Dir(path) != filepath.Join("..", "dump") {
				t.Errorf("%s: %s: use package dump, which repeats an interrupted list", files.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil || found == 0 {
		t.Fatalf("looked at the project's files: %v, %d calls found", err, found)
	}
}
