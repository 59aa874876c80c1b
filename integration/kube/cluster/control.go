package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"onlink/integration/lab"
)

// startTime bounds how long the API server, and then the nodes, may take to
// start: five seconds on a quiet machine, and minutes in user-mode Linux.
var startTime = Slow(3 * time.Minute)

// Slow is a bound in user-mode Linux, which has one CPU and slow system calls, and
// elsewhere the bound that is given.
func Slow(bound time.Duration) time.Duration {
	if os.Getenv("ONLINK_BED") == "uml" {
		return 5 * bound
	}
	return bound
}

// The programs of the control plane, as [Cluster.Pause] takes them.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// apiPort is where the API server listens.
const apiPort = "6443"

// admin is the name of the credentials of the cluster's administrator.
const admin = "admin"

// makeCredentials makes the files of everybody who calls the API server.
func (c *Cluster) makeCredentials() error {
	control := c.Control
	creds, err := newCredentials(filepath.Join(c.Lab.Dir, "pki"), "https://"+net.JoinHostPort(control.Addr.String(), apiPort))
	if err != nil {
		return err
	}
	c.credentials = creds
	server := certificate("kube-apiserver")
	server.DNSNames = []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"}
	addresses := []net.IP{control.Addr.AsSlice(), net.IPv4(127, 0, 0, 1), net.IPv6loopback, Services.Addr().Next().AsSlice(), Services6.Addr().Next().AsSlice()}
	if control.Addr6.IsValid() {
		addresses = append(addresses, control.Addr6.AsSlice())
	}
	if err := creds.pair("apiserver", server, addresses...); err != nil {
		return err
	}
	// Kubelets accept this one alone; RBAC lets system:masters do everything.
	if err := creds.pair("kubelet-client", certificate("kube-apiserver-kubelet-client", "system:masters")); err != nil {
		return err
	}
	users := [][]string{
		{ControllerManager, "system:kube-controller-manager"},
		{Scheduler, "system:kube-scheduler"},
		{"kube-proxy", "system:kube-proxy"},
	}
	for _, n := range c.Nodes {
		users = append(users, []string{n.Name, "system:node:" + n.Name, "system:nodes"})
	}
	for _, u := range users {
		if _, err := creds.user(u[0], u[1], u[2:]...); err != nil {
			return err
		}
	}
	if c.token, err = creds.user(admin, admin, "system:masters"); err != nil {
		return err
	}
	return creds.write("tokens", []byte(creds.tokens.String()))
}

// startControl starts the control plane; it returns when the API server serves.
func (c *Cluster) startControl(ctx context.Context) error {
	o, file := c.Options, c.credentials.file
	commands := [][]string{
		{Etcd, "--data-dir", filepath.Join(c.Lab.Dir, "etcd"), "--unsafe-no-fsync", "--log-level", "warn"},
		{
			APIServer, "--etcd-servers", "http://127.0.0.1:2379", "--advertise-address", c.Control.Addr.String(), "--secure-port", apiPort,
			"--tls-cert-file", file("apiserver.crt"), "--tls-private-key-file", file("apiserver.key"), "--cert-dir", file("apiserver"),
			"--token-auth-file", file("tokens"), "--client-ca-file", file("ca.crt"),
			"--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged",
			"--service-cluster-ip-range", o.families(Services.String(), Services6.String()),
			"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file", file("sa.key"), "--service-account-signing-key-file", file("sa.key"),
			"--kubelet-client-certificate", file("kubelet-client.crt"), "--kubelet-client-key", file("kubelet-client.key"),
			"--kubelet-preferred-address-types", "InternalIP",
		},
	}
	for _, argv := range commands {
		if err := c.startProgram(argv); err != nil {
			return err
		}
	}
	err := lab.Eventually(ctx, startTime, "API server", func() error {
		_, err := c.get(ctx, "/readyz")
		return err
	})
	for _, argv := range commands {
		if err == nil {
			err = alive(c.programs[argv[0]])
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.programs[APIServer].Tail(20))
	}
	manager := []string{
		ControllerManager, "--kubeconfig", file(ControllerManager + ".conf"), "--leader-elect=false", "--cert-dir", file(ControllerManager),
		"--service-account-private-key-file", file("sa.key"), "--root-ca-file", file("ca.crt"), "--use-service-account-credentials",
	}
	if o.NodePodCIDRs {
		var pods []string
		for _, p := range o.Pods {
			pods = append(pods, p.String())
		}
		manager = append(manager, "--allocate-node-cidrs", "--cluster-cidr", strings.Join(pods, ","),
			"--service-cluster-ip-range", o.families(Services.String(), Services6.String()))
	}
	if err := c.startProgram(manager); err != nil {
		return err
	}
	return c.startProgram([]string{Scheduler, "--kubeconfig", file(Scheduler + ".conf"), "--leader-elect=false", "--cert-dir", file(Scheduler)})
}

func (c *Cluster) startProgram(argv []string) error {
	name := argv[0]
	p, err := c.Control.NS.Start(name, filepath.Join(c.Lab.Dir, name+".log"), append([]string{filepath.Join(c.Options.Bin, name)}, argv[1:]...)...)
	if err != nil {
		return err
	}
	c.programs[name] = p
	return nil
}

// Pause stops programs of the control plane (SIGSTOP): they neither answer nor end
// a connection.
func (c *Cluster) Pause(names ...string) error { return c.signal(unix.SIGSTOP, names) }

// Resume lets paused programs go on (SIGCONT).
func (c *Cluster) Resume(names ...string) error { return c.signal(unix.SIGCONT, names) }

func (c *Cluster) signal(s unix.Signal, names []string) error {
	for _, name := range names {
		p := c.programs[name]
		if p == nil {
			return fmt.Errorf("signal %s: no such program; use %s, %s, %s or %s", name, Etcd, APIServer, ControllerManager, Scheduler)
		}
		if err := unix.Kill(p.Pid(), s); err != nil {
			return fmt.Errorf("signal %s: %w", name, err)
		}
	}
	return nil
}
