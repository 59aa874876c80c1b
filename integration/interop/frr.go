package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"onlink/integration/lab"
)

// frr is FRRouting: zebra, bgpd, and bfdd where it is asked for.
type frr struct{}

var frrConfig = template.Must(template.New("bgpd.conf").Parse(`route-map own permit 10
{{- with .Standard}}
 set community {{.}}
{{- end}}
{{- with .Large}}
 set large-community {{.}}
{{- end}}
route-map hop permit 10
{{- if .SetHop}}
 set ipv6 next-hop global {{.HopIPv6}}
{{- end}}
router bgp {{.ASN}}
 bgp router-id {{.RouterID}}
{{- if .Restart}}
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
{{- else}}
 bgp graceful-restart-disable
{{- end}}
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 neighbor {{.Remote}} remote-as {{.RemoteASN}}
 neighbor {{.Remote}} update-source {{.Local}}
 neighbor {{.Remote}} timers connect 1
 neighbor {{.Remote}} advertisement-interval 0
{{- if .Password}}
 neighbor {{.Remote}} password {{.Password}}
{{- end}}
{{- if .TTLSecurity}}
 neighbor {{.Remote}} ttl-security hops 1
{{- end}}
{{- if .BFD}}
 neighbor {{.Remote}} bfd
 neighbor {{.Remote}} bfd profile fast
{{- end}}
{{- if .ExtendedHop}}
 neighbor {{.Remote}} capability extended-nexthop
{{- end}}
{{- if .IPv4}}
 address-family ipv4 unicast
  neighbor {{.Remote}} activate
{{- range .Own4}}
  network {{.}} route-map own
{{- end}}
 exit-address-family
{{- end}}
{{- if .IPv6}}
 address-family ipv6 unicast
  neighbor {{.Remote}} activate
  neighbor {{.Remote}} route-map hop out
{{- range .Own6}}
  network {{.}} route-map own
{{- end}}
 exit-address-family
{{- end}}
`))

func (frr) start(ctx context.Context, r *Router) error {
	var text bytes.Buffer
	s := r.setup
	standard, large := s.split()
	err := frrConfig.Execute(&text, struct {
		Setup

		Own4, Own6      []netip.Prefix
		Standard, Large string
		SetHop          bool
	}{s, s.announced(true), s.announced(false), strings.Join(standard, " "), strings.Join(large, " "), s.IPv6 && s.Local.Is4()})
	if err != nil {
		return fmt.Errorf("write bgpd.conf: %w", err)
	}
	for _, dir := range []string{r.frrSockets(), r.dir, "/var/tmp/frr"} {
		if err := lab.FRROwned(dir); err != nil {
			return err
		}
	}
	bfdd := fmt.Sprintf("bfd\n profile fast\n  receive-interval %d\n  transmit-interval %d\n  detect-multiplier 3\n", bfdInterval, bfdInterval)
	for name, conf := range map[string]string{"zebra.conf": "", "bfdd.conf": bfdd, "bgpd.conf": text.String()} {
		if err := r.write(name, conf, 0o644); err != nil {
			return err
		}
	}
	if len(r.procs) == 0 { // else only bgpd was killed
		if err := r.frrDaemon(ctx, "zebra", "zserv.api"); err != nil {
			return err
		}
		if s.BFD {
			if err := r.frrDaemon(ctx, "bfdd", "bfdd.vty", "--bfdctl", r.file("bfdd.sock")); err != nil {
				return err
			}
		}
	}
	return r.frrDaemon(ctx, "bgpd", "bgpd.vty")
}

// frrInstance is the router's name among the machine's FRR instances.
func (r *Router) frrInstance() string {
	return strings.ReplaceAll(r.NS.Name, ".", "-") + "-" + r.Name
}

// frrSockets is where the instance's programs meet.
func (r *Router) frrSockets() string { return filepath.Join("/run/frr", r.frrInstance()) }

// clean removes what the router leaves outside its folder.
func (r *Router) clean() error {
	if r.Kind != FRR {
		return nil
	}
	return os.RemoveAll(r.frrSockets())
}

// frrDaemon starts one of FRR's programs and waits for its socket.
func (r *Router) frrDaemon(ctx context.Context, name, socket string, more ...string) error {
	path := filepath.Join(r.frrSockets(), socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	argv := []string{
		filepath.Join("/usr/lib/frr", name), "-N", r.frrInstance(), "-f", r.file(name + ".conf"), "-i", r.file(name + ".pid"), "-P", "0", "--log", "stdout",
	}
	if name == "bgpd" {
		more = append(more, "-p", "179")
	}
	p, err := r.run(append(argv, more...)...)
	if err != nil {
		return err
	}
	return lab.Started(ctx, p, func() error {
		_, err := os.Stat(path)
		return err
	})
}

// vtyTime bounds one exchange with bgpd.
const vtyTime = 15 * time.Second

// vty sends commands to bgpd's terminal socket, as vtysh does, and returns the
// reply to the last one. A command ends with a zero byte, a reply with three
// and a status.
func (r *Router) vty(commands ...string) (string, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(r.frrSockets(), "bgpd.vty"), vtyTime)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // nothing is buffered
	if err := conn.SetDeadline(time.Now().Add(vtyTime)); err != nil {
		return "", err
	}
	var reply []byte
	for _, c := range append([]string{"enable"}, commands...) {
		if _, err := conn.Write(append([]byte(c), 0)); err != nil {
			return "", fmt.Errorf("%s: %w", c, err)
		}
		if reply, err = vtyReply(conn); err != nil {
			return "", fmt.Errorf("%s: %w: %s", c, err, reply)
		}
	}
	return string(reply), nil
}

var errVTY = errors.New("bgpd refuses")

func vtyReply(conn net.Conn) ([]byte, error) {
	var all []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return all, err
		}
		all = append(all, buf[:n]...)
		end := len(all) - 4
		if end < 0 || all[end] != 0 || all[end+1] != 0 || all[end+2] != 0 {
			continue
		}
		if status := all[end+3]; status != 0 {
			return all[:end], fmt.Errorf("%w: status %d", errVTY, status)
		}
		return all[:end], nil
	}
}

func (frr) withdraw(_ context.Context, r *Router) error {
	commands := []string{"configure terminal", fmt.Sprintf("router bgp %d", r.setup.ASN)}
	for _, p := range r.setup.Announce {
		family := "ipv4"
		if p.Addr().Is6() {
			family = "ipv6"
		}
		commands = append(commands, "address-family "+family+" unicast", "no network "+p.String(), "exit-address-family")
	}
	_, err := r.vty(commands...)
	return err
}

// frrTable and frrPrefix are what bgpd prints of all prefixes and of one.
type (
	frrTable struct {
		Routes map[netip.Prefix]json.RawMessage `json:"routes"`
	}
	frrPrefix struct {
		Paths []struct {
			ASPath struct {
				String string `json:"string"`
			} `json:"aspath"`
			LocPrf    uint32 `json:"locPrf"`
			Community struct {
				List []string `json:"list"`
			} `json:"community"`
			Large struct {
				List []string `json:"list"`
			} `json:"largeCommunity"`
			Originator netip.Addr `json:"originatorId"`
			Clusters   struct {
				List []netip.Addr `json:"list"`
			} `json:"clusterList"`
			NextHops []struct {
				IP    netip.Addr `json:"ip"`
				Scope string     `json:"scope"`
			} `json:"nexthops"`
			Peer struct {
				ID string `json:"peerId"`
			} `json:"peer"`
		} `json:"paths"`
	}
)

// frrWords are the well-known communities that bgpd prints as words.
var frrWords = map[string]string{"gracefulShutdown": "65535:0", "graceful-shutdown": "65535:0", "noExport": "65535:65281", "no-export": "65535:65281"}

func (frr) learned(_ context.Context, r *Router) ([]Route, error) {
	var out []Route
	for _, family := range []string{"ipv4", "ipv6"} {
		show := "show bgp " + family + " unicast "
		text, err := r.vty(show + "json")
		if err != nil {
			return nil, err
		}
		var all frrTable
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return nil, fmt.Errorf("read table: %w: %s", err, text)
		}
		for p := range all.Routes {
			if text, err = r.vty(show + p.String() + " json"); err != nil {
				return nil, err
			}
			list, err := parseFRR(p, text, r.setup.Remote.String())
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
	}
	return out, nil
}

// parseFRR reads the paths of one prefix that came from a peer.
func parseFRR(p netip.Prefix, text, peer string) ([]Route, error) {
	var one frrPrefix
	if err := json.Unmarshal([]byte(text), &one); err != nil {
		return nil, fmt.Errorf("read %s: %w: %s", p, err, text)
	}
	var out []Route
	for _, path := range one.Paths {
		if path.Peer.ID != peer {
			continue
		}
		route := Route{Prefix: p, LocalPref: path.LocPrf, Originator: path.Originator, Clusters: path.Clusters.List}
		if path.ASPath.String != "Local" {
			route.ASPath = path.ASPath.String
		}
		for _, c := range append(path.Community.List, path.Large.List...) {
			if word, known := frrWords[c]; known {
				c = word
			}
			route.Communities = append(route.Communities, c)
		}
		for _, h := range path.NextHops {
			if h.Scope != "link-local" {
				route.NextHop = h.IP
			}
		}
		out = append(out, route)
	}
	return out, nil
}
