package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"onlink/integration/lab"
)

// Kind is one implementation.
type Kind string

// The implementations, by the names their makers use.
const (
	BIRD   Kind = "BIRD"
	FRR    Kind = "FRR"
	ExaBGP Kind = "ExaBGP"
	GoBGP  Kind = "gobgpd"
)

// Kinds are all implementations, in the order of a table's columns.
var Kinds = []Kind{BIRD, FRR, ExaBGP, GoBGP}

// debianPackage holds each implementation's Debian package.
var debianPackage = map[Kind]string{BIRD: "bird2", FRR: "frr", ExaBGP: "exabgp", GoBGP: "gobgpd"}

// Version returns the installed version of the Debian package.
func (k Kind) Version() (string, error) {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", debianPackage[k]).Output()
	if err != nil {
		return "", fmt.Errorf("ask version of %s: %w", debianPackage[k], err)
	}
	return string(out), nil
}

// Setup says what a router is to do: one session, and what it announces.
type Setup struct {
	ASN, RemoteASN uint32
	RouterID       netip.Addr
	Local, Remote  netip.Addr // ends of the session
	IPv4, IPv6     bool       // families it offers
	HopIPv4        netip.Addr // next hop of the IPv4 prefixes it announces; an IPv6 one needs ExtendedHop
	HopIPv6        netip.Addr
	Announce       []netip.Prefix
	Communities    []string // of all it announces: AS:VALUE or AS:VALUE:VALUE
	Password       string   // TCP MD5 (RFC 2385)
	TTLSecurity    bool     // GTSM (RFC 5082), neighbours on one link
	Restart        bool     // graceful restart (RFC 4724)
	LongLived      int      // long-lived graceful restart (RFC 9494): seconds, after a restart time of 2 s (BIRD only)
	Restarted      bool     // this start is one that peers were asked to bridge
	BFD            bool     // RFC 5881, 100 ms x 3
	ExtendedHop    bool     // RFC 8950
}

// bfdInterval is the interval of [Setup.BFD], in milliseconds.
const bfdInterval = 100

// announced returns the prefixes of one family.
func (s Setup) announced(v4 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Announce {
		if p.Addr().Is4() == v4 {
			out = append(out, p)
		}
	}
	return out
}

// split returns the standard and the large ones of [Setup.Communities].
func (s Setup) split() (standard, large []string) {
	for _, c := range s.Communities {
		if strings.Count(c, ":") == 1 {
			standard = append(standard, c)
		} else {
			large = append(large, c)
		}
	}
	return standard, large
}

// hop returns the next hop of what is announced in the prefix's family.
func (s Setup) hop(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return s.HopIPv4
	}
	return s.HopIPv6
}

// Route is one path that a router learned on its session.
type Route struct {
	Prefix      netip.Prefix
	NextHop     netip.Addr
	ASPath      string // numbers between blanks
	LocalPref   uint32 // 0 when the session carries none
	MED         uint32 // 0 when the route carries none; BIRD only
	Communities []string
	Originator  netip.Addr   // the zero Addr: none
	Clusters    []netip.Addr // CLUSTER_LIST
}

// Has reports whether the route carries a community.
func (r Route) Has(community string) bool { return slices.Contains(r.Communities, community) }

// Router is one implementation in a namespace.
type Router struct {
	Kind Kind
	NS   *lab.NS
	Name string // unique among the routers of one lab

	dir   string
	setup Setup
	procs []*lab.Process // the last one speaks BGP
}

// program is what differs between the implementations.
type program interface {
	// start writes the configuration and starts all programs.
	start(ctx context.Context, r *Router) error
	// learned returns what the session's peer announced.
	learned(ctx context.Context, r *Router) ([]Route, error)
	// withdraw takes back what the router announces.
	withdraw(ctx context.Context, r *Router) error
}

func (k Kind) program() program {
	switch k {
	case BIRD:
		return bird{}
	case FRR:
		return frr{}
	case ExaBGP:
		return exabgp{}
	case GoBGP:
		return gobgp{}
	}
	panic("interop: no implementation " + string(k))
}

// New returns a router that keeps its files in dir/name. The folder's parents
// must be open to other users, because FRR drops root.
func New(kind Kind, ns *lab.NS, dir, name string) *Router {
	return &Router{Kind: kind, NS: ns, Name: name, dir: filepath.Join(dir, name)}
}

// startTime bounds a router's start; Python and FRR need seconds of a busy
// machine.
const startTime = time.Minute

// Start starts the router; it returns when its program runs, not when its
// session is up.
func (r *Router) Start(ctx context.Context, s Setup) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	r.setup = s
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("start %s %s: %w", r.Kind, r.Name, err)
	}
	if err := r.Kind.program().start(ctx, r); err != nil {
		return fmt.Errorf("start %s %s: %w\n%s", r.Kind, r.Name, errors.Join(err, r.Kill()), r.Logs(20))
	}
	return nil
}

// Learned returns what the peer announced, in no order.
func (r *Router) Learned(ctx context.Context) ([]Route, error) {
	list, err := r.Kind.program().learned(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("routes of %s %s: %w", r.Kind, r.Name, err)
	}
	return list, nil
}

// Withdraw takes everything back that the router announces.
func (r *Router) Withdraw(ctx context.Context) error {
	if err := r.Kind.program().withdraw(ctx, r); err != nil {
		return fmt.Errorf("withdraw routes of %s %s: %w", r.Kind, r.Name, err)
	}
	return nil
}

// Kill ends the router's programs with SIGKILL; of a dead router it succeeds.
func (r *Router) Kill() error {
	var err error
	for _, p := range slices.Backward(r.procs) {
		err = errors.Join(err, p.Kill())
	}
	r.procs = nil
	return errors.Join(err, r.clean())
}

// KillSpeaker ends the program that speaks BGP, and no other, with SIGKILL.
func (r *Router) KillSpeaker() error {
	last := len(r.procs) - 1
	err := r.procs[last].Kill()
	r.procs = r.procs[:last]
	return err
}

// Freeze stops the router's programs where they are, without a word to peers.
func (r *Router) Freeze() error { return r.signal(syscall.SIGSTOP) }

// Thaw lets frozen programs go on.
func (r *Router) Thaw() error { return r.signal(syscall.SIGCONT) }

func (r *Router) signal(s syscall.Signal) error {
	for _, p := range r.procs {
		if err := syscall.Kill(p.Pid(), s); err != nil {
			return fmt.Errorf("signal %s of %s: %w", p.Name, r.Name, err)
		}
	}
	return nil
}

// Logs returns the end of what the router's programs wrote.
func (r *Router) Logs(lines int) string {
	text, err := os.ReadFile(r.file("log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// file names one of the router's files.
func (r *Router) file(name string) string { return filepath.Join(r.dir, name) }

// write writes one of the router's files.
func (r *Router) write(name, text string, mode os.FileMode) error {
	if err := os.WriteFile(r.file(name), []byte(text), mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// run starts a program of the router.
func (r *Router) run(argv ...string) (*lab.Process, error) {
	p, err := r.NS.Start(r.Name+" "+filepath.Base(argv[0]), r.file("log"), argv...)
	if err == nil {
		r.procs = append(r.procs, p)
	}
	return p, err
}

// ask runs a command of the router's own tool to its end.
func (r *Router) ask(ctx context.Context, argv ...string) ([]byte, error) {
	var out []byte
	err := r.NS.Do(func() error {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var err error
		out, err = cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, exit.Stderr)
		}
		return err
	})
	return out, err
}
