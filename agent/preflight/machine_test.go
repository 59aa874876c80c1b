package preflight

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/fib/underlay"
)

// bed is a machine: a network namespace with the uplink eth0 (10.57.0.11/24, the
// default route over 10.57.0.1) and the cable eth1, and a folder for files.
type bed struct {
	t   *testing.T
	dir string
}

// onMachine runs f on a thread of its own in a fresh machine.
func onMachine(t *testing.T, f func(*bed)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := &bed{t: t, dir: t.TempDir()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("new network namespace: %v", err)
			return
		}
		if b.wire() {
			f(b)
		}
	}()
	<-done
}

func (b *bed) wire() bool {
	for _, dev := range []string{"eth0", "eth1"} {
		if !b.did(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: dev}, PeerName: dev + "-far"})) {
			return false
		}
	}
	for _, dev := range []string{"lo", "eth0-far", "eth0", "eth1-far", "eth1"} {
		link, err := netlink.LinkByName(dev)
		if !b.did(err) || !b.did(netlink.LinkSetUp(link)) {
			return false
		}
	}
	eth0, err := netlink.LinkByName("eth0")
	if !b.did(err) {
		return false
	}
	addr, err := netlink.ParseAddr("10.57.0.11/24")
	return b.did(err) && b.did(netlink.AddrAdd(eth0, addr)) && b.did(netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 57, 0, 1)}))
}

// did reports a failure; the test's own goroutine waits.
func (b *bed) did(err error) bool {
	if err != nil {
		b.t.Error(err)
	}
	return err == nil
}

// put writes a file.
func (b *bed) put(name, text string) {
	b.did(os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600))
}

// judge returns the mistakes of a file on this machine. DIR stands for its folder.
func (b *bed) judge(text string) string {
	text = strings.ReplaceAll(text, "DIR", b.dir)
	if !strings.Contains(text, "node:") {
		text = "node: {name: r1n1}\n" + text
	}
	if !strings.Contains(text, "paths:") {
		text += fmt.Sprintf("\npaths: {state: %s/state, run: %s/run}\n", b.dir, b.dir)
	}
	c := parsed(b.t, text)
	errs, err := Machine(b.t.Context(), c, Setup{
		OwnDevice: func(underlay.Device) bool { return false }, Database: filepath.Join(c.Paths.State, "onlink.db"),
	})
	b.did(err)
	if len(errs) == 0 {
		return ""
	}
	return strings.ReplaceAll(errs.Error(), b.dir, "DIR")
}

// leaf puts the files of a certificate that is its own authority.
func (b *bed) leaf(name string, change func(*x509.Certificate)) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.did(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	b.did(err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	b.did(err)
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	b.put(name+".crt", encode("CERTIFICATE", der))
	b.put(name+".key", encode("PRIVATE KEY", raw))
}

// files puts the files that the cases name.
func (b *bed) files() {
	b.put("empty.key", "")
	b.put("long.key", strings.Repeat("x", 81)+"\n")
	b.put("good.key", "secret\n")
	b.put("text.crt", "hello")
	b.put("plain", "a file")
	b.did(os.MkdirAll(filepath.Join(b.dir, "damaged"), 0o700))
	b.put("damaged/onlink.db", "no database at all, and longer than a page header: "+strings.Repeat("?", 8192))
	b.leaf("node", func(*x509.Certificate) {})
	b.leaf("other", func(*x509.Certificate) {})
	b.leaf("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	b.leaf("new", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	b.leaf("client", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
}

// stamp matches the times in messages.
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT[^ ;]+`)

// TestMachine: files that are right by themselves, and wrong on this machine.
func TestMachine(t *testing.T) {
	const admin = "api: {admin: {tcp: 10.57.0.11:9180, tls: {cert: %s, key: %s, ca: %s}}}"
	tls := func(cert, key, ca string) string { return fmt.Sprintf(admin, "DIR/"+cert, "DIR/"+key, "DIR/"+ca) }
	cases := []struct{ name, text, want string }{
		{"no file of a password", "bgp: {peers: [{name: tor, address: 10.57.0.1, asn: 65001, passwordFile: DIR/none.key}]}", "onlinkd.yaml:2: bgp.peers[0].passwordFile: open DIR/none.key: no such file or directory; write the key into the file's first line, or correct the path"},
		{"an empty password", "bgp: {reflector: {clients: [10.57.0.0/24], passwordFile: DIR/empty.key}}", "onlinkd.yaml:2: bgp.reflector.passwordFile: DIR/empty.key: the first line is the key and must have 1 to 80 bytes, it has 0; write the key into the file's first line, or correct the path"},
		{"a password of 81 bytes", "bgp: {mesh: {nodes: [10.57.0.11, 10.57.0.12], passwordFile: DIR/long.key}}", "onlinkd.yaml:2: bgp.mesh.passwordFile: DIR/long.key: the first line is the key and must have 1 to 80 bytes, it has 81; write the key into the file's first line, or correct the path"},
		{"no password of etcd", "ipam: {registry: {kind: etcd, address: '10.57.0.9:2379', insecure: true, user: u, passwordFile: DIR/none.key}}", "onlinkd.yaml:2: ipam.registry.passwordFile: open DIR/none.key: no such file or directory; write the key into the file's first line, or correct the path"},

		{"no certificate", tls("none.crt", "node.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.cert: open DIR/none.crt: no such file or directory; correct the path, or put the file there (onlinkctl pki issue)"},
		{"no key", tls("node.crt", "none.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.key: open DIR/none.key: no such file or directory; correct the path, or put the file there (onlinkctl pki issue)"},
		{"no authority", tls("node.crt", "node.key", "none.crt"), "onlinkd.yaml:2: api.admin.tls.ca: open DIR/none.crt: no such file or directory; correct the path, or put the file there (onlinkctl pki issue)"},
		{"the key of another", tls("node.crt", "other.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.cert: DIR/node.crt and DIR/other.key are no certificate and its key: tls: private key does not match public key; name the two that were issued together"},
		{"an authority of text", tls("node.crt", "node.key", "text.crt"), "onlinkd.yaml:2: api.admin.tls.ca: DIR/text.crt: no certificate in PEM form; name a file with the authority's certificate (ca.crt of onlinkctl pki init)"},
		{"an expired certificate", tls("old.crt", "old.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.cert: DIR/old.crt expired at TIME; issue a new one (onlinkctl pki issue)"},
		{"a certificate of the future", tls("new.crt", "new.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.cert: DIR/new.crt is valid from TIME on; correct this machine's clock, or issue a new one"},
		{"an expired authority", tls("node.crt", "node.key", "old.crt"), "onlinkd.yaml:2: api.admin.tls.ca: the certificates in DIR/old.crt have expired, so every other side is rejected; name a file with a valid authority"},
		{"a client's certificate for a server", tls("client.crt", "client.key", "node.crt"), "onlinkd.yaml:2: api.admin.tls.cert: DIR/client.crt may not be used for servers (extended key usage), so the other side rejects it; issue one with onlinkctl pki issue"},
		{"no certificate for the registry", "ipam: {registry: {kind: grpc, address: '10.57.0.9:4790', tls: {cert: DIR/none.crt, key: DIR/node.key, ca: DIR/node.crt}}}", "onlinkd.yaml:2: ipam.registry.tls.cert: open DIR/none.crt: no such file or directory; correct the path, or put the file there (onlinkctl pki issue)"},

		{"no such group", "api: {admin: {group: nobody-has-it}}", `onlinkd.yaml:2: api.admin.group: this machine has no group "nobody-has-it": group: unknown group nobody-has-it; make it with groupadd, or write the name or number of one`},
		{"one group by name and by number", "api: {admin: {group: root, viewers: '0'}}", "onlinkd.yaml:2: api.admin.viewers: 0 is the group of api.admin.group, which may change everything; use another group"},

		{"state in a file", "paths: {state: DIR/plain/state, run: DIR/run}", "onlinkd.yaml:2: paths.state: the folder DIR/plain/state cannot be made or written: open folder DIR/plain: not a directory; name another, or correct what is there"},
		{"run is a file", "paths: {state: DIR/state, run: DIR/plain}", "onlinkd.yaml:2: paths.run: the folder DIR/plain cannot be made or written: open folder DIR/plain: not a directory; name another, or correct what is there"},
		{"a damaged database", "paths: {state: DIR/damaged, run: DIR/run}", "onlinkd.yaml:2: paths.state: open database DIR/damaged/onlink.db: "},
		{"a socket in a file's place", "cni: {socket: DIR/plain}", "onlinkd.yaml:2: cni.socket: DIR/plain is there already, and is no socket; name another path"},
		{"no plugin to install", "cni: {install: {binDir: DIR/bin, confDir: DIR/net.d, plugin: DIR/none}}", "onlinkd.yaml:2: cni.install.plugin: stat DIR/none: no such file or directory; name the program onlink-cni, which is built with onlinkd"},
		{"plugins into a file", "cni: {install: {binDir: DIR/plain, confDir: DIR/net.d, plugin: DIR/good.key}}", "onlinkd.yaml:2: cni.install.binDir: the folder DIR/plain cannot be made or written: open folder DIR/plain: not a directory; name that of the container runtime"},

		{"a device that is not there", "node: {name: a, address: eth7}", "onlinkd.yaml:1: node.address: device eth7: no such device; set a device, an address or a network of this node"},
		{"an address that is not there", "node: {name: a, address: 10.57.0.99}", `onlinkd.yaml:1: node.address: no usable address matches "10.57.0.99" (this node has: 10.57.0.11 on eth0 (veth)); set an address, a device or a network of this node`},
		{"a network that is not there", "node: {name: a, address: 10.99.0.0/16}", `onlinkd.yaml:1: node.address: no usable address matches "10.99.0.0/16" (this node has: 10.57.0.11 on eth0 (veth)); set an address, a device or a network of this node`},
		{"a pool over the uplink", "pools: [{name: a, cidr: 10.57.0.0/16}]", "onlinkd.yaml:2: pools[0].cidr: 10.57.0.0/16 overlaps 10.57.0.0/24, the network of eth0; pods need a range of their own: use another"},
		{"a mesh without this node", "bgp: {mesh: {nodes: [10.57.0.12, 10.57.0.13]}}", "onlinkd.yaml:2: bgp.mesh: this node's address 10.57.0.11 is not among its nodes; add it, or set node.address to the one that is"},
		{"own address as peer", "bgp: {peers: [{address: 10.57.0.11}]}", "onlinkd.yaml:2: bgp.peers[0].address: 10.57.0.11 is this node's own address: it would be its own peer; write the other router's address, or give this node a file without the peer (nodeSelector)"},
		{"the registry is this node", "ipam: {registry: {kind: grpc, address: '10.57.0.11:4790', insecure: true}}", "onlinkd.yaml:2: ipam.registry.address: 10.57.0.11:4790 is this node's own address, and an agent of kind grpc serves no registry: it would call itself; write kind: bolt with listen here, or the address of the agent that has it"},
		{"no registry here", "ipam: {registry: {kind: grpc, address: '127.0.0.1:4790', insecure: true}}", "onlinkd.yaml:2: ipam.registry.address: no process serves a registry at 127.0.0.1:4790 on this machine, and an agent of kind grpc serves none; write kind: bolt, or the address of the agent with ipam.registry.listen"},

		{"BGP listens elsewhere", "bgp: {listen: {address: 192.0.2.1}}", "onlinkd.yaml:2: bgp.listen.address: this machine does not have 192.0.2.1; write one of its addresses (ip address), or listen on all of them"},
		{"metrics elsewhere", "api: {metrics: 192.0.2.1:9179}", "onlinkd.yaml:2: api.metrics: this machine does not have 192.0.2.1; write one of its addresses (ip address), or listen on all of them"},
		{"the registry elsewhere", "ipam: {registry: {listen: 192.0.2.1:4790, insecure: true}}", "onlinkd.yaml:2: ipam.registry.listen: this machine does not have 192.0.2.1; write one of its addresses (ip address), or listen on all of them"},
		{"the looking glass on a port in use", "api: {glass: 127.0.0.1:9999}", "onlinkd.yaml:2: api.glass: port 9999 is in use by preflight.test (process PID); stop that, or use another port"},
		{"a port in use", "api: {metrics: 127.0.0.1:9999}", "onlinkd.yaml:2: api.metrics: port 9999 is in use by preflight.test (process PID); stop that, or use another port"},
		{"BGP's port in use", "bgp: {listen: {port: 9999}}", "onlinkd.yaml:2: bgp.listen.port: port 9999 is in use by preflight.test (process PID); stop that, or use another port"},
		{"a session from elsewhere", "bgp: {peers: [{address: 10.57.0.1, localAddress: 192.0.2.1}]}", "onlinkd.yaml:2: bgp.peers[0].localAddress: this machine does not have 192.0.2.1; write one of its addresses (ip address), or remove it"},
		{"a station from elsewhere", "bgp: {bmp: [{address: 10.57.0.1, port: 5000, sourceAddress: 192.0.2.1}]}", "onlinkd.yaml:2: bgp.bmp[0].sourceAddress: this machine does not have 192.0.2.1; write one of its addresses (ip address), or remove it"},
		{"routes from elsewhere", "fib: {source: 192.0.2.1}", "onlinkd.yaml:2: fib.source: this machine does not have 192.0.2.1, and the kernel rejects every route with it; use auto or one of its addresses (ip address)"},

		{"no such cable", "bgp: {peers: [{interface: eth7, asn: 65001}]}", "onlinkd.yaml:2: bgp.peers[0].interface: this machine has no device eth7; write the name of one (ip link)"},
		{"no such zone", "bgp: {peers: [{address: fe80::1%eth7, asn: 65001}]}", "onlinkd.yaml:2: bgp.peers[0].address: this machine has no device eth7; write the name of one after the % (ip link)"},
		{"the network's own address", "bgp: {peers: [{address: 10.57.0.0, asn: 65001}]}", "onlinkd.yaml:2: bgp.peers[0].address: 10.57.0.0 is no machine's address in 10.57.0.0/24, the network of eth0; write the peer's own"},
		{"the network's broadcast", "bgp: {peers: [{address: 10.57.0.255}]}", "onlinkd.yaml:2: bgp.peers[0].address: 10.57.0.255 is no machine's address in 10.57.0.0/24, the network of eth0; write the peer's own"},
		{"a peer of the other family", "bgp: {peers: [{address: 'fd57::1', asn: 65001}]}", "onlinkd.yaml:2: bgp.peers[0].address: fd57::1 is of a family of which this machine has no address; give it one, or write the peer's address of the other family"},
		{"another AS behind a router", "bgp: {peers: [{address: 10.99.0.1, asn: 65001}]}", "onlinkd.yaml:2: bgp.peers[0].multihop: is missing: 10.99.0.1 is behind 10.57.0.1 (eth0), and packets to a peer of another AS end at the first router; add multihop: 2 or more, or write an address on a network of this node"},
	}
	onMachine(t, func(b *bed) {
		b.files()
		busy, err := net.Listen("tcp", "127.0.0.1:9999")
		if !b.did(err) {
			return
		}
		defer busy.Close()
		for _, c := range cases {
			got := stamp.ReplaceAllString(b.judge(c.text), "TIME")
			got = strings.ReplaceAll(got, fmt.Sprintf("process %d", os.Getpid()), "process PID")
			// One message ends in the database's own words.
			open := strings.HasSuffix(c.want, ": ") && strings.HasPrefix(got, c.want) && strings.Contains(got, "; ") && !strings.Contains(got, "\n")
			if got != c.want && !open {
				t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
			}
		}
	})
}

// TestMachineAccepts: what a start on this machine can use.
func TestMachineAccepts(t *testing.T) {
	cases := map[string]string{
		"the default":             "",
		"a node by its device":    "node: {name: a, address: eth0}",
		"a node by its network":   "node: {name: a, address: 10.57.0.0/16}",
		"a ToR and reflectors":    "bgp: {peers: [{address: 10.57.0.1, asn: 65001, passwordFile: DIR/good.key}, {address: 10.99.0.10}]}",
		"another AS, multihop":    "bgp: {peers: [{address: 10.99.0.1, asn: 65001, multihop: 4}, {address: 10.99.0.2, asn: 65001, ttlSecurity: 3}]}",
		"a cable":                 "bgp: {peers: [{interface: eth1, asn: 65001}]}",
		"a session's own end":     "bgp: {peers: [{address: 10.57.0.1, localAddress: 10.57.0.11}]}",
		"a mesh":                  "bgp: {mesh: {nodes: [10.57.0.11, 10.57.0.12]}}",
		"a station's own end":     "bgp: {bmp: [{address: 10.57.0.1, port: 5000, sourceAddress: 10.57.0.11}]}",
		"routes from here":        "fib: {source: 10.57.0.11}",
		"everywhere":              "api: {metrics: ':9179'}\nbgp: {listen: {address: 10.57.0.11}}",
		"TLS":                     "api: {admin: {tcp: 10.57.0.11:9180, group: root, tls: {cert: DIR/node.crt, key: DIR/node.key, ca: DIR/node.crt}}}",
		"a client's certificate":  "ipam: {registry: {kind: grpc, address: '10.57.0.9:4790', tls: {cert: DIR/client.crt, key: DIR/client.key, ca: DIR/node.crt}}}",
		"a proxy to the registry": "ipam: {registry: {kind: grpc, address: '127.0.0.1:9999', insecure: true}}",
		"a new authority beside":  "api: {admin: {tcp: 10.57.0.11:9180, tls: {cert: DIR/node.crt, key: DIR/node.key, ca: DIR/both.crt}}}",
		"folders to make":         "cni: {install: {binDir: DIR/a/b/bin, confDir: DIR/a/b/net.d, plugin: DIR/good.key}}",
	}
	onMachine(t, func(b *bed) {
		b.files()
		var both strings.Builder
		for _, name := range []string{"old.crt", "node.crt"} {
			text, err := os.ReadFile(filepath.Join(b.dir, name))
			b.did(err)
			both.Write(text)
		}
		b.put("both.crt", both.String())
		busy, err := net.Listen("tcp", "127.0.0.1:9999")
		if !b.did(err) {
			return
		}
		defer busy.Close()
		for name, text := range cases {
			if got := b.judge(text); got != "" {
				t.Errorf("%s: %s", name, got)
			}
		}
		if entries, err := os.ReadDir(b.dir); err != nil || len(entries) == 0 {
			t.Errorf("the bed's own files: %v", err)
		}
		for _, made := range []string{"state", "run", "a"} {
			if _, err := os.Stat(filepath.Join(b.dir, made)); err == nil {
				t.Errorf("%s was made: a check changes nothing", made)
			}
		}
	})
}

// TestBusyAgent: a running agent's own ports are no clash, those of another program
// are.
func TestBusyAgent(t *testing.T) {
	onMachine(t, func(b *bed) {
		busy, err := net.Listen("tcp", "127.0.0.1:9179")
		if !b.did(err) {
			return
		}
		defer busy.Close()
		if name, who := holder(9179); name != "preflight.test" || !strings.Contains(who, strconv.Itoa(os.Getpid())) {
			t.Errorf("port 9179 is held by %q (%s)", name, who)
		}
		comm, err := os.ReadFile("/proc/self/comm")
		b.did(err)
		b.did(os.WriteFile("/proc/self/comm", []byte(program), 0))
		defer func() { b.did(os.WriteFile("/proc/self/comm", comm, 0)) }()
		if got := b.judge(""); got != "" {
			t.Errorf("an agent runs: %s", got)
		}
	})
}
