package render

import (
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"onlink/kube/api/v1alpha1"
)

const (
	registryAddr = "unix:///run/onlink-kube/registry.sock"
	adminGroup   = "65532" // of onlink-kube node
	pairFile     = "/run/onlink-kube/node.pem"
	trustFile    = "/run/onlink-kube/ca.crt"
	binDir       = "/opt/cni/bin"
	confDir      = "/etc/cni/net.d"
)

// base is what the OnlinkConfig gives every node.
type base struct {
	asn     int64
	mode    v1alpha1.MeshMode
	clients []netip.Prefix // configured ranges; nil: those around the nodes
	link    link
	sealed  bool // the key of the sessions inside the cluster is missing: there are none without it

	ipam    ipamSection
	tunnel  tunnelSection
	fib     fibSection
	cni     cniSection
	admin   adminPort
	metrics string
	log     logSection
}

// adminPort is where an agent serves its API to other machines; 0: nowhere.
type adminPort uint16

// section returns the API's section of a node. Init and node write the files.
func (p adminPort) section(node netip.Addr) adminSection {
	s := adminSection{Group: adminGroup}
	if p != 0 {
		s.TCP = netip.AddrPortFrom(node, uint16(p)).String()
		s.TLS = tlsSection{Cert: pairFile, Key: pairFile, CA: trustFile}
	}
	return s
}

// baseReader reads the OnlinkConfig, one section after the other: of one with a
// mistake the section in force stays, and the others change.
type baseReader struct {
	cur    *current
	broken bool // the agent rejected the object: every section in force stays
	faults []string
}

// readBase reads the OnlinkConfig.
func readBase(in *Input, cur *current, l *ledger) *base {
	spec := &in.Config.Spec
	why := l.broken(kindConfig, v1alpha1.ConfigName)
	r := &baseReader{cur: cur, broken: why != ""}
	b := &base{mode: spec.Reflection.Mesh}
	b.asn = section(r, orASN(spec.ASN), defaultASN, func(f *file) int64 { return f.BGP.ASN }, func(c *checks) { c.asn("spec.asn", spec.ASN) })
	r.sessions(in, b, l)
	b.ipam = section(r, ipamSection{Cooldown: spec.IPAM.Cooldown, Sticky: spec.IPAM.Sticky, Registry: registrySection{Assert: spec.IPAM.Assert}},
		ipamSection{}, func(f *file) ipamSection { return f.IPAM }, func(c *checks) {
			c.duration("spec.ipam.cooldown", spec.IPAM.Cooldown, 0, day)
			c.duration("spec.ipam.sticky", spec.IPAM.Sticky, 0, 365*day)
			c.duration("spec.ipam.assert", spec.IPAM.Assert, time.Second, 10*time.Minute)
		})
	b.ipam.Registry.Kind, b.ipam.Registry.Address = "grpc", registryAddr
	b.tunnel = section(r, tunnelSection(spec.Tunnel), tunnelSection{}, func(f *file) tunnelSection { return f.Tunnel }, func(c *checks) { checkTunnel(c, &spec.Tunnel) })
	b.fib = section(r, fibSection(spec.FIB), fibSection{}, func(f *file) fibSection { return f.FIB }, func(c *checks) {
		c.number("spec.fib.metric", spec.FIB.Metric, 0, math.MaxUint32)
		c.duration("spec.fib.resync", spec.FIB.Resync, time.Second, day)
	})
	b.cni = section(r, readCNI(&spec.CNI), readCNI(&v1alpha1.CNI{}), func(f *file) cniSection { return f.CNI }, func(c *checks) { checkCNI(c, &spec.CNI) })
	b.admin = section(r, readAdminPort(spec.AdminPort), 0, func(f *file) adminPort {
		at, _ := netip.ParseAddrPort(f.API.Admin.TCP) // without one it serves nowhere
		return adminPort(at.Port())
	}, func(c *checks) {
		if p := spec.AdminPort; p != nil {
			c.number("spec.adminPort", int64(*p), 0, math.MaxUint16)
		}
	})
	b.metrics = section(r, spec.Metrics, "", func(f *file) string {
		if !probed(f.API.Metrics) { // in force since a version that rendered it
			return ""
		}
		return f.API.Metrics
	}, func(c *checks) { checkMetrics(c, spec.Metrics) })
	b.log = section(r, logSection{Level: spec.LogLevel}, logSection{}, func(f *file) logSection { return f.Log }, func(c *checks) {
		c.oneOf("spec.logLevel", spec.LogLevel, "debug", "info", "warn", "error")
	})
	if why == "" {
		why = (&checks{faults: r.faults}).reason()
	}
	if why != "" {
		l.reject(kindConfig, &in.Config.ObjectMeta, why)
	}
	return b
}

// section returns the section of the object; where it has a mistake, the one in
// force, or on a node without one the default.
func section[T any](r *baseReader, want, def T, inForce func(*file) T, check func(*checks)) T {
	var c checks
	check(&c)
	r.faults = append(r.faults, c.faults...)
	switch {
	case len(c.faults) == 0 && !r.broken:
		return want
	case r.cur.file != nil:
		return inForce(r.cur.file)
	}
	return def
}

// readAdminPort reads a port, which is absent in a cluster whose CRD is of a version
// that has none.
func readAdminPort(p *int32) adminPort {
	if p == nil || *p < 0 || *p > math.MaxUint16 {
		return 0
	}
	return adminPort(*p)
}

func orASN(asn int64) int64 {
	if asn == 0 {
		return defaultASN
	}
	return asn
}

// sessions reads what the sessions inside the cluster share.
func (r *baseReader) sessions(in *Input, b *base, l *ledger) {
	spec := &in.Config.Spec.Reflection
	var faults checks
	key := readKey(in, &faults, "spec.reflection.passwordSecretRef", spec.PasswordSecretRef)
	want := link{PasswordFile: key.path(), HoldTime: spec.HoldTime, BFD: spec.BFD}
	inForce, present := r.cur.link(in)
	b.link = section(r, want, link{}, func(*file) link { return inForce }, func(c *checks) {
		c.oneOf("spec.reflection.mesh", string(spec.Mesh), string(v1alpha1.MeshAuto), string(v1alpha1.MeshOff))
		c.seconds("spec.reflection.holdTime", spec.HoldTime, minHoldTime, maxHoldTime)
		c.bfd("spec.reflection.bfd", spec.BFD)
		c.faults = append(c.faults, faults.faults...)
	})
	// New sessions without the key that is wanted would be open to every host; those
	// in force stay as they are.
	b.sealed = len(faults.faults) > 0 && !present
	if b.link.PasswordFile == key.path() {
		l.keep(key)
	}
	b.clients = section(r, maskAll(spec.Clients), nil, func(f *file) []netip.Prefix {
		if f.BGP.Reflector == nil {
			return nil
		}
		return maskAll(f.BGP.Reflector.Clients)
	}, func(c *checks) {
		for _, text := range spec.Clients {
			c.prefix("spec.reflection.clients", text)
		}
	})
}

// link returns what the sessions inside the cluster share in the file in force, and
// whether it has such sessions.
func (c *current) link(in *Input) (l link, present bool) {
	if c.file == nil {
		return link{}, false
	}
	if m := c.file.BGP.Mesh; m != nil {
		return m.link, true
	}
	for _, n := range byAge(in.Reflectors, nodeMeta) {
		if p, ok := c.peers[n.Name]; ok {
			return link{PasswordFile: p.PasswordFile, HoldTime: p.HoldTime, BFD: p.BFD}, true
		}
	}
	if r := c.file.BGP.Reflector; r != nil {
		return link{PasswordFile: r.PasswordFile}, true
	}
	return link{}, false
}

// maskAll returns the valid ranges, without those inside others, in order.
func maskAll(list []v1alpha1.CIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		if p, err := netip.ParsePrefix(string(text)); err == nil && !p.Addr().Is4In6() {
			out = append(out, p.Masked())
		}
	}
	return merge(out)
}

// merge returns prefixes in order, without those that are inside another.
func merge(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range list {
		if n := len(out); n == 0 || !contains(out[n-1], p) {
			out = append(out, p)
		}
	}
	return out
}

func checkTunnel(c *checks, t *v1alpha1.Tunnel) {
	if t.MTU != 0 {
		c.number("spec.tunnel.mtu", int64(t.MTU), 576, math.MaxUint16)
	}
	c.oneOf("spec.tunnel.guard", t.Guard, "off", "auto", "required")
	if v := t.VXLAN; v != nil {
		c.number("spec.tunnel.vxlan.vni", int64(v.VNI), 0, 1<<24-1)
		c.number("spec.tunnel.vxlan.port", int64(v.Port), 0, math.MaxUint16)
	}
}

func readCNI(s *v1alpha1.CNI) cniSection {
	out := cniSection{Sysctls: s.Sysctls, Install: installSection{BinDir: s.BinDir, ConfDir: s.ConfDir, Plugins: s.Plugins}}
	if out.Install.BinDir == "" {
		out.Install.BinDir = binDir
	}
	if out.Install.ConfDir == "" {
		out.Install.ConfDir = confDir
	}
	return out
}

// dir checks a folder, which may be absent.
func (c *checks) dir(field, path string) {
	if path != "" && (!strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0)) {
		c.failf(field, "%q is not an absolute path; begin it with /", path)
	}
}

// pluginFile matches the names of a CNI plugin's program.
var pluginFile = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func checkCNI(c *checks, s *v1alpha1.CNI) {
	c.dir("spec.cni.binDir", s.BinDir)
	c.dir("spec.cni.confDir", s.ConfDir)
	for i, p := range s.Plugins {
		switch {
		case !pluginFile.MatchString(p):
			c.failf("spec.cni.plugins", "%q is not the name of a plugin's program; use one such as portmap, bandwidth or tuning", p)
		case p == "onlink-cni":
			c.failf("spec.cni.plugins", "onlink-cni is there already; name the plugins behind it only")
		case slices.Contains(s.Plugins[:i], p):
			c.failf("spec.cni.plugins", "%s is given twice; remove one", p)
		}
	}
	for _, name := range s.Sysctls {
		if _, err := path.Match(name, ""); err != nil || !strings.HasPrefix(name, "net.") {
			c.failf("spec.cni.sysctls", "%q is not a network sysctl; use its name with dots, such as net.ipv4.tcp_rmem, and * and ?", name)
		}
	}
}

// probeAddr is what kubelet's probes of the DaemonSet ask (deploy/kubernetes/chart,
// templates/node.yaml). An agent that does not answer there is ended again and again.
var probeAddr = netip.MustParseAddrPort("127.0.0.1:9179")

// probed reports whether the metrics at an address answer the probes too.
func probed(text string) bool {
	switch {
	case text == "":
		return true // the default of the agent
	case strings.HasPrefix(text, ":"):
		text = "[::]" + text
	}
	ap, err := netip.ParseAddrPort(text)
	return err == nil && ap.Port() == probeAddr.Port() && (ap.Addr() == probeAddr.Addr() || ap.Addr().IsUnspecified())
}

func checkMetrics(c *checks, text string) {
	if !probed(text) {
		c.failf("spec.metrics", "%q does not serve %s, which kubelet's probes of the DaemonSet ask: use %s, or :%d for every address of the node", text, probeAddr, probeAddr, probeAddr.Port())
	}
}
