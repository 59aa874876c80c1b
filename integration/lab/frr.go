package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// frrConfig is the ToR's bgpd configuration, with the same policy as
// birdConfig.
var frrConfig = template.Must(template.New("bgpd.conf").Parse(`ip prefix-list pods seq 5 permit {{.Pool}} le 32
{{- if .Pool6.IsValid}}
ipv6 prefix-list pods6 seq 5 permit {{.Pool6}} le 128
{{- end}}
{{- with .Service}}
ip prefix-list service seq 5 permit {{.}}
{{- else}}
ip prefix-list service seq 5 deny any
{{- end}}
ipv6 prefix-list none seq 5 deny any
route-map all permit 10
router bgp {{.ToR.ASN}}
 bgp router-id {{.ToR.Core}}
 bgp graceful-restart
 bgp bestpath as-path multipath-relax
 no bgp network import-check
 no bgp default ipv4-unicast
{{- range .Others}}
 neighbor {{.Core}} remote-as {{.ASN}}
 neighbor {{.Core}} timers connect 1
 neighbor {{.Core}} advertisement-interval 0
{{- if $.DualStack}}
 neighbor {{.Core6}} remote-as {{.ASN}}
 neighbor {{.Core6}} timers connect 1
 neighbor {{.Core6}} advertisement-interval 0
{{- end}}
{{- end}}
{{- range .Nodes}}
 neighbor {{.Addr}} remote-as {{$.NodeASN}}
 neighbor {{.Addr}} timers connect 1
 neighbor {{.Addr}} advertisement-interval 0
{{- end}}
 address-family ipv4 unicast
  network {{.Rack}}
{{- with .Service}}
  network {{.}}
{{- end}}
  maximum-paths 16
{{- range .Others}}
  neighbor {{.Core}} activate
  neighbor {{.Core}} route-map all in
  neighbor {{.Core}} route-map all out
{{- end}}
{{- range .Nodes}}
  neighbor {{.Addr}} activate
  neighbor {{.Addr}} prefix-list pods in
  neighbor {{.Addr}} prefix-list service out
{{- end}}
 exit-address-family
{{- if .DualStack}}
 address-family ipv6 unicast
  network {{.Rack6}}
{{- range .Others}}
  neighbor {{.Core6}} activate
  neighbor {{.Core6}} route-map all in
  neighbor {{.Core6}} route-map all out
{{- end}}
{{- if .Pool6.IsValid}}
{{- range .Nodes}}
  neighbor {{.Addr}} activate
  neighbor {{.Addr}} prefix-list pods6 in
  neighbor {{.Addr}} prefix-list none out
{{- end}}
{{- end}}
 exit-address-family
{{- end}}
`))

// frrRun is where FRR makes a folder of sockets per instance.
const frrRun = "/run/frr"

// frrInstance is the router's name among the machine's FRR instances, which
// may not hold a dot.
func (t *ToR) frrInstance() string { return strings.ReplaceAll(t.NS.Name, ".", "-") }

// cleanFRR removes what FRR leaves outside the lab's directory.
func (t *ToR) cleanFRR() error {
	if t.lab.Spec.ToR != FRR {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(frrRun, t.frrInstance())); err != nil {
		return fmt.Errorf("remove sockets of %s: %w", t.Name, err)
	}
	return nil
}

// startFRR starts zebra, then bgpd. FRR drops to its own user and keeps its
// sockets in /run/frr/NAME (the lab's name is part of it), so these two
// folders must be the user's.
func (t *ToR) startFRR(ctx context.Context) error {
	instance := t.frrInstance()
	sockets := filepath.Join(frrRun, instance)
	files := t.file("frr")
	s := steps{}
	for _, dir := range []string{sockets, files, "/var/tmp/frr"} {
		s.do(func() error { return FRROwned(dir) })
	}
	s.do(func() error { return t.writeFRR(files) })
	if s.err != nil {
		return s.err
	}
	zebra, err := t.frrDaemon(ctx, instance, files, "zebra")
	if err != nil {
		return err
	}
	err = poll(ctx, "start zebra of "+t.Name, zebra, func() error {
		_, err := os.Stat(filepath.Join(sockets, "zserv.api"))
		return err
	})
	if err != nil {
		return err
	}
	bgpd, err := t.frrDaemon(ctx, instance, files, "bgpd")
	if err != nil {
		return err
	}
	return poll(ctx, "start bgpd of "+t.Name, bgpd, func() error {
		_, err := os.Stat(filepath.Join(sockets, "bgpd.vty"))
		return err
	})
}

// frrDaemon starts one of FRR's programs.
func (t *ToR) frrDaemon(_ context.Context, instance, files, name string) (*Process, error) {
	p, err := start(t.NS, t.Name+" "+name, t.file("log"), filepath.Join("/usr/lib/frr", name),
		"-N", instance, "-f", filepath.Join(files, name+".conf"), "-i", filepath.Join(files, name+".pid"), "--log", "stdout")
	if err == nil {
		t.procs = append([]*Process{p}, t.procs...) // stopped in reverse order
	}
	return p, err
}

// writeFRR writes the configuration files of both programs.
func (t *ToR) writeFRR(dir string) error {
	var text bytes.Buffer
	in := map[string]any{
		"ToR": t, "Others": t.others(), "Nodes": t.lab.rack(t.Number).bgpNodes(), "NodeASN": NodeASN,
		"DualStack": t.lab.Spec.DualStack, "Pool": t.lab.Spec.Pool.CIDR, "Pool6": t.lab.Spec.Pool.CIDR6,
		"Rack": rackNet(t.Number), "Rack6": rackNet6(t.Number),
	}
	if service, ok := t.service(); ok {
		in["Service"] = service
	}
	if err := frrConfig.Execute(&text, in); err != nil {
		return fmt.Errorf("write configuration of %s: %w", t.Name, err)
	}
	for name, data := range map[string][]byte{"zebra.conf": nil, "bgpd.conf": text.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return fmt.Errorf("write configuration of %s: %w", t.Name, err)
		}
	}
	return nil
}

// FRROwned makes a folder and gives it to FRR's user.
func FRROwned(dir string) error {
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("find FRR's user (package frr): %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("read uid of user frr: %w", err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("read gid of user frr: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("give %s to FRR: %w", dir, err)
	}
	return nil
}
