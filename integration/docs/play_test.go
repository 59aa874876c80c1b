package docs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

// show is for those who write a page: it prints what every command prints.
//
//	go test ./integration/docs -run TestPlay/docs/bgp.md -v -args -show
var show = flag.Bool("show", false, "print the outputs of the pages' commands instead of comparing them")

// root is the tree's folder.
const root = "../.."

// page is a page of the documentation.
type page struct {
	name   string
	text   string
	bed    Bed
	blocks []*Block
}

// pages reads README.md and docs/*.md: what people wrote. The pages of docs/reference
// are made of the programs.
func pages(t *testing.T) (list []page) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	labtest.Must(t, err)
	if len(files) < 10 {
		t.Fatalf("only %d pages", len(files))
	}
	for _, file := range append(files, filepath.Join(root, "README.md")) {
		name, err := filepath.Rel(root, file)
		labtest.Must(t, err)
		text, err := os.ReadFile(file)
		labtest.Must(t, err)
		p := page{name: name, text: string(text)}
		if p.bed, err = BedOf(name, p.text); err != nil {
			t.Error(err)
		}
		if p.blocks, err = Parse(name, p.text); err != nil {
			t.Error(err)
		}
		list = append(list, p)
	}
	return list
}

// TestPlay runs every command of every page on the hosts that the page names, and
// writes every file that it gives: what it shows must be printed.
func TestPlay(t *testing.T) {
	for _, p := range pages(t) {
		if p.bed.Kind == "" {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			ctx, hosts := p.bed.make(t)
			t.Cleanup(func() {
				for _, m := range hosts {
					if t.Failed() {
						t.Log(m.logs())
					}
				}
			})
			commands := 0
			for _, b := range p.blocks {
				if b.On == "" || b.NotRun != "" {
					continue
				}
				for name := range strings.SplitSeq(b.On, ",") {
					m := hosts[name]
					if m == nil {
						t.Fatalf("%s: the bed has no host %s", b.Where(), name)
					}
					commands += play(ctx, t, m, b)
				}
			}
			t.Logf("%d commands in %s", commands, time.Since(began).Round(time.Second))
		})
	}
}

// play runs a block and returns how many commands that were.
func play(ctx context.Context, t *testing.T, m *machine, b *Block) int {
	t.Helper()
	if b.File != "" {
		if err := os.WriteFile(m.path(b.File), []byte(b.Text), 0o644); err != nil {
			t.Fatalf("%s: %v", b.Where(), err)
		}
		return 0
	}
	commands := b.Commands()
	for _, c := range commands {
		if *show {
			out, err := m.run(ctx, c)
			t.Logf("%s:%d: on %s: %s\n%s%v", b.Page, c.Line, m.name, c.Text, out, err)
		} else if err := perform(ctx, m, c); err != nil {
			t.Errorf("%s:%d: on %s: %s\n%v", b.Page, c.Line, m.name, c.Text, err)
		}
	}
	return len(commands)
}

// perform runs a command once, or, where the page shows what it prints, until it does:
// a reader too looks again while sessions come up.
func perform(ctx context.Context, m *machine, c Command) error {
	if c.Shown == "" {
		_, err := m.run(ctx, c)
		return err
	}
	return lab.Eventually(ctx, patience, "what the page shows", func() error {
		out, err := m.run(ctx, c)
		if err != nil && !errors.Is(err, errExit) {
			return err
		}
		return errors.Join(Differ(c.Shown, out), err)
	})
}

// make makes the hosts of the bed.
func (b Bed) make(t *testing.T) (context.Context, map[string]*machine) {
	t.Helper()
	spec := lab.Spec{Name: "docs", Racks: 1, NodesPerRack: b.Nodes, ToRsPerRack: b.ToRs, Reflectors: b.Reflectors, Pool: lab.Pool{Tunnel: "none"}}
	if b.Reflectors == 0 {
		spec.Reflectors = -1
	}
	spec.Name = fmt.Sprintf("d%d", beds.Add(1))
	ctx, l := labtest.Build(t, spec)
	hosts := map[string]*machine{}
	for _, n := range l.Nodes() {
		run, etc := "", ""
		if b.Kind == "rack" {
			run, etc = filepath.Dir(n.AdminSocket()), filepath.Dir(n.ConfigFile())
		}
		hosts[n.Name] = newMachine(ctx, t, n.Name, n.NS, run, etc)
	}
	for _, tor := range l.ToRs() {
		hosts[tor.Name] = newMachine(ctx, t, tor.Name, tor.NS, "", "")
	}
	names := names(l)
	for _, m := range hosts {
		m.peers = hosts
		file, err := os.OpenFile(m.path("/etc/hosts"), os.O_APPEND|os.O_WRONLY, 0)
		labtest.Must(t, err)
		_, err = file.WriteString(names)
		labtest.Must(t, errors.Join(err, file.Close()))
	}
	inTree(t, hosts)
	if b.Kind == "bare" {
		return ctx, hosts
	}
	working(ctx, t, l, hosts)
	return ctx, hosts
}

// names returns the lines of /etc/hosts for a lab.
func names(l *lab.Lab) string {
	var out strings.Builder
	for _, n := range l.Nodes() {
		fmt.Fprintf(&out, "%s %s\n", n.Addr, n.Name)
	}
	for _, tor := range l.ToRs() {
		fmt.Fprintf(&out, "%s %s\n", tor.Addr, tor.Name)
	}
	return out.String()
}

// inTree makes the folder that commands begin in look like a tree after `make build`.
func inTree(t *testing.T, hosts map[string]*machine) {
	t.Helper()
	tree, err := filepath.Abs(root)
	labtest.Must(t, err)
	for _, m := range hosts {
		labtest.Must(t, os.Symlink(labtest.Bin(), m.path("/srv/bin")))
		labtest.Must(t, os.Symlink(filepath.Join(tree, "deploy"), m.path("/srv/deploy")))
	}
}

// working starts the agents and pods of a rack. Their API listens over TLS too, and
// every host has the certificate of an operator.
func working(ctx context.Context, t *testing.T, l *lab.Lab, hosts map[string]*machine) {
	t.Helper()
	ca := labtest.NewAuthority(t)
	alice := ca.Issue(t, identity.Operator, "alice")
	for _, n := range l.Nodes() {
		tls := ca.Issue(t, identity.Node, n.Name, n.Addr)
		n.Edit = func(c *conf.Config) { c.API.Admin.TCP, c.API.Admin.TLS = n.Addr.String()+":9180", tls }
		for from, to := range map[string]string{alice.CA: "ca.crt", alice.Cert: "alice.crt", alice.Key: "alice.key"} {
			text, err := os.ReadFile(from)
			labtest.Must(t, err)
			labtest.Must(t, os.WriteFile(hosts[n.Name].path("/srv/"+to), text, 0o600))
		}
	}
	labtest.StartWithPods(ctx, t, l)
}

// patience bounds the wait for what a page shows: sessions come up after seconds.
const patience = 20 * time.Second

// beds numbers the beds of this process, for their names.
var beds atomic.Int32
