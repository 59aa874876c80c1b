package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"onlink/integration/lab"
)

// answerTime bounds one request, and patience the time until one is answered:
// kube-proxy takes a second or three over a new service.
var (
	answerTime = Slow(5 * time.Second)
	patience   = Slow(30 * time.Second)
)

// HelloPort is where the program of the hello pods listens, on TCP and UDP.
const HelloPort = 8080

// At returns the URL of an address and port.
func At(a netip.Addr, port int) string {
	return "http://" + netip.AddrPortFrom(a, uint16(port)).String() + "/"
}

// Get requests a URL from inside a network namespace, once.
func Get(ctx context.Context, ns *lab.NS, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	text, err := get(ctx, HTTPClient(ns), url)
	if err != nil {
		return "", fmt.Errorf("from %s: %w", ns.Name, err)
	}
	return text, nil
}

// WaitAnswer requests a URL from inside a network namespace until it is answered.
func WaitAnswer(ctx context.Context, ns *lab.NS, url string) (text string, err error) {
	err = lab.Eventually(ctx, patience, "answer of "+url, func() error {
		text, err = Get(ctx, ns, url)
		return err
	})
	return text, err
}

// Through is the URL by which the hello pod at the first address requests another
// URL.
func Through(pod netip.Addr, target string) string {
	return At(pod, HelloPort) + "?get=" + url.QueryEscape(target)
}

// ThroughUDP is the URL by which the hello pod at the first address sends a datagram
// to another address and passes the answer on.
func ThroughUDP(pod netip.Addr, to netip.AddrPort) string {
	return At(pod, HelloPort) + "?udp=" + url.QueryEscape(to.String())
}

// SendUDP sends a datagram from inside a network namespace and returns the answer.
func SendUDP(ctx context.Context, ns *lab.NS, to netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := dialer(func() *lab.NS { return ns })(ctx, "udp", to.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return "", err
	}
	buffer := make([]byte, 1500)
	size, err := conn.Read(buffer)
	if err != nil {
		return "", fmt.Errorf("from %s to UDP %s: %w", ns.Name, to, err)
	}
	return string(buffer[:size]), nil
}

// Source returns the address that a hello pod saw a request come from, by the end
// of its answer.
func Source(answer string) (netip.Addr, error) {
	_, text, ok := strings.Cut(strings.TrimSpace(answer), " to ")
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q names no address", answer)
	}
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read %q: %w", answer, err)
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err
}

// Logs returns the end of the logs of every program of the cluster, and of every
// container that is not ready.
func (c *Cluster) Logs(lines int) string {
	var out strings.Builder
	show := func(path string) {
		if _, err := os.Stat(path); err == nil {
			fmt.Fprintf(&out, "--- %s\n%s\n", strings.TrimPrefix(path, c.Lab.Dir+"/"), tail(path, lines))
		}
	}
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
		show(filepath.Join(c.Lab.Dir, name+".log"))
	}
	for _, n := range c.Nodes {
		for _, name := range []string{"box", Containerd, Kubelet, KubeProxy} {
			show(n.file(name + ".log"))
		}
	}
	return out.String()
}

// PodLogs returns the state of every pod, the warnings among the events, and the
// end of the log of every container.
func (c *Cluster) PodLogs(ctx context.Context, lines int) string {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var out strings.Builder
	run := func(args ...string) string {
		text, err := c.Kubectl(ctx, args...)
		fmt.Fprintf(&out, "--- kubectl %s\n%s", strings.Join(args, " "), text)
		if err != nil {
			fmt.Fprintln(&out, err)
		}
		return text
	}
	run("get", "nodes,pods,services,daemonsets,deployments", "-A", "-o", "wide")
	run("get", "events", "-A", "--field-selector", "type!=Normal", "--sort-by", ".lastTimestamp")
	names, err := c.Kubectl(ctx, "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace}{" "}{.metadata.name}{"\n"}{end}`)
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	for line := range strings.Lines(names) {
		if pod := strings.Fields(line); len(pod) == 2 {
			run("logs", "-n", pod[0], pod[1], "--all-containers", "--prefix", "--tail", strconv.Itoa(lines))
		}
	}
	return out.String()
}
