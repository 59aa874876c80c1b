package docs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/internal/identity"
	"onlink/internal/pki"
)

// Bed is which hosts a page has. The zero value is none.
type Bed struct {
	// Kind is bare (hosts with nothing on them) or rack (agents and pods that work).
	Kind       string
	ToRs       int
	Nodes      int
	Reflectors int
}

var bedRE = regexp.MustCompile(`(?m)^<!-- bed: (\w+)((?: \w+=\d+)*) -->$`)

// BedOf returns the bed that a page names.
func BedOf(page, text string) (Bed, error) {
	m := bedRE.FindStringSubmatch(text)
	if m == nil {
		return Bed{}, nil
	}
	bed := Bed{Kind: m[1], ToRs: 1, Nodes: 2, Reflectors: 1}
	numbers := map[string]*int{"tors": &bed.ToRs, "nodes": &bed.Nodes, "reflectors": &bed.Reflectors}
	for word := range strings.FieldsSeq(m[2]) {
		key, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		if numbers[key] == nil || err != nil {
			return Bed{}, fmt.Errorf("%s: %q: a bed has %v", page, word, slices.Sorted(maps.Keys(numbers)))
		}
		*numbers[key] = n
	}
	if bed.Kind != "bare" && bed.Kind != "rack" {
		return Bed{}, fmt.Errorf("%s: a bed is bare or rack, not %s", page, bed.Kind)
	}
	return bed, nil
}

// Hosts are the hosts of a bed.
type Hosts struct {
	lab      *lab.Lab
	machines map[string]*Machine
}

// Make makes the hosts of the bed, with the programs of the folder bin. The caller
// closes them.
func (b Bed) Make(ctx context.Context, name, bin string) (*Hosts, error) {
	spec := lab.Spec{Name: name, Racks: 1, NodesPerRack: b.Nodes, ToRsPerRack: b.ToRs, Reflectors: b.Reflectors, Pool: lab.Pool{Tunnel: "none"}}
	if b.Reflectors == 0 {
		spec.Reflectors = -1
	}
	bin, err := filepath.Abs(bin) // a host's /srv/bin leads there
	if err != nil {
		return nil, err
	}
	l, err := lab.Build(ctx, spec, lab.Options{Bin: bin})
	if err != nil {
		return nil, err
	}
	h := &Hosts{lab: l, machines: map[string]*Machine{}}
	if err := h.fill(ctx, b); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// fill makes the machines, and where the bed is a rack starts everything on them.
func (h *Hosts) fill(ctx context.Context, b Bed) error {
	for _, n := range h.lab.Nodes() {
		run, etc := "", ""
		if b.Kind == "rack" {
			run, etc = filepath.Dir(n.AdminSocket()), filepath.Dir(n.ConfigFile())
		}
		if err := h.newMachine(ctx, n.Name, n.NS, run, etc); err != nil {
			return err
		}
	}
	for _, tor := range h.lab.ToRs() {
		if err := h.newMachine(ctx, tor.Name, tor.NS, "", ""); err != nil {
			return err
		}
	}
	for _, m := range h.machines {
		if err := h.furnish(m); err != nil {
			return err
		}
	}
	if b.Kind != "rack" {
		return nil
	}
	return h.work(ctx)
}

// furnish gives a machine the names of all, and makes the folder that its commands begin
// in look like a tree after `make build`.
func (h *Hosts) furnish(m *Machine) error {
	tree, err := treeRoot()
	if err != nil {
		return err
	}
	var names strings.Builder
	for _, n := range h.lab.Nodes() {
		fmt.Fprintf(&names, "%s %s\n", n.Addr, n.Name)
	}
	for _, tor := range h.lab.ToRs() {
		fmt.Fprintf(&names, "%s %s\n", tor.Addr, tor.Name)
	}
	file, err := os.OpenFile(m.path("/etc/hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(names.String())
	return errors.Join(err, file.Close(), os.Symlink(h.lab.Bin, m.path("/srv/bin")), os.Symlink(filepath.Join(tree, "deploy"), m.path("/srv/deploy")))
}

// treeRoot returns the folder of the tree that the working directory is in.
func treeRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the tree: run it inside onlink's source tree")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// work starts the ToRs, the agents, and a pod on each node. The agents' API listens over
// TLS too, and every node has the certificate of an operator, alice.
func (h *Hosts) work(ctx context.Context) error {
	now := time.Now()
	ca, err := pki.NewAuthority("onlink CA", now, now.Add(365*24*time.Hour), pki.P256)
	if err != nil {
		return err
	}
	issue := func(dir, name string, role identity.Role, addrs ...netip.Addr) (conf.TLS, error) {
		p, err := ca.Issue(pki.Request{
			Identities: []identity.Identity{{Role: role, Name: name}}, IPs: addrs, From: now, Until: now.Add(24 * time.Hour), Algorithm: pki.P256,
		})
		files := conf.TLS{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"), CA: filepath.Join(h.lab.Dir, "ca.crt")}
		return files, errors.Join(err, p.Write(files.Cert, files.Key))
	}
	if err := ca.Write(filepath.Join(h.lab.Dir, "ca.crt"), filepath.Join(h.lab.Dir, "ca.key")); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(h.lab.Dir, "ca.crt"))
	if err != nil {
		return err
	}
	for _, n := range h.lab.Nodes() {
		home := h.machines[n.Name].path("/srv")
		files, err := issue(h.lab.Dir, n.Name, identity.Node, n.Addr)
		_, alice := issue(home, "alice", identity.Operator)
		if err := errors.Join(err, alice, os.WriteFile(filepath.Join(home, "ca.crt"), text, 0o644)); err != nil {
			return err
		}
		n.Under = h.machines[n.Name].inside()
		n.Edit = func(c *conf.Config) {
			c.API.Admin.TCP, c.API.Admin.TLS = netip.AddrPortFrom(n.Addr, 9180).String(), files
		}
	}
	if err := errors.Join(h.lab.StartToRs(ctx), h.lab.StartNodes(ctx)); err != nil {
		return err
	}
	for _, n := range h.lab.Workers() {
		if _, err := n.AddPod(ctx, n.Name+"-pod1"); err != nil {
			return err
		}
	}
	return h.lab.WaitConverged(ctx)
}

// Machine returns the host of a name.
func (h *Hosts) Machine(name string) (*Machine, error) {
	m := h.machines[name]
	if m == nil {
		return nil, fmt.Errorf("the bed has no host %s: it has %v", name, slices.Sorted(maps.Keys(h.machines)))
	}
	return m, nil
}

// Logs returns the end of what the programs of all hosts wrote.
func (h *Hosts) Logs() string {
	var out strings.Builder
	for _, m := range h.machines {
		out.WriteString(m.logs())
	}
	for _, n := range h.lab.Nodes() {
		fmt.Fprintf(&out, "onlinkd on %s:\n%s\n", n.Name, n.Logs(30))
	}
	return out.String()
}

// Close ends everything on the hosts, and removes them.
func (h *Hosts) Close() error {
	var errs []error
	for _, m := range h.machines {
		errs = append(errs, m.close())
	}
	return errors.Join(append(errs, h.lab.Close())...)
}
