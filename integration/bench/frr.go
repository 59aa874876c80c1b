package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"onlink/integration/lab"
)

// frrFolder is where Debian's package puts the daemons, which are in no PATH.
const frrFolder = "/usr/lib/frr"

// frrReceiver is FRR as it comes: zebra and bgpd, whose processor time and memory count
// together.
var frrReceiver = receiver{"FRR", 186, func(r *run, s *space) (*program, error) {
	dir, err := r.frrFiles("routes", frrRoutes)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "zserv.api")
	zebra, err := r.frrDaemon(s, "zebra", dir, "-z", socket)
	if err != nil {
		return nil, err
	}
	err = zebra.until(context.Background(), "zebra listens", 20*time.Millisecond, 10*time.Second, func() (bool, error) {
		_, err := os.Stat(socket)
		return err == nil, nil
	})
	if err != nil {
		zebra.stop()
		return nil, err
	}
	bgpd, err := r.frrDaemon(s, "bgpd", dir, "-z", socket)
	if err != nil {
		zebra.stop()
		return nil, err
	}
	bgpd.with = zebra
	return bgpd, nil
}}

// startFRRReflector is bgpd alone, without a kernel.
func (r *run) startFRRReflector(s *space, _ []string) (*program, error) {
	dir, err := r.frrFiles("reflector", frrReflector)
	if err != nil {
		return nil, err
	}
	return r.frrDaemon(s, "bgpd", dir, "--no_zebra")
}

var frrRoutes = template.Must(template.New("bgpd.conf").Parse(`router bgp {{.ASN}}
 bgp router-id {{.Near}}
 no bgp network import-check
 neighbor {{.Far}} remote-as {{.ASN}}
 neighbor {{.Far}} passive
 neighbor {{.Far}} timers 60 180
`))

var frrReflector = template.Must(template.New("bgpd.conf").Parse(`router bgp {{.ASN}}
 bgp router-id {{.Near}}
 bgp cluster-id {{.Near}}
 neighbor clients peer-group
 neighbor clients remote-as {{.ASN}}
 neighbor clients passive
 neighbor clients timers 60 180
 neighbor clients advertisement-interval 0
 bgp listen limit 5000
 bgp listen range {{.Clients}} peer-group clients
 address-family ipv4 unicast
  neighbor clients route-reflector-client
 exit-address-family
`))

// frrFiles makes a folder with the configurations of both daemons.
func (r *run) frrFiles(name string, bgpd *template.Template) (dir string, err error) {
	if dir, err = os.MkdirTemp(r.sockets, "frr-"); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	var text bytes.Buffer
	in := map[string]any{"Near": nearAddr, "Far": farAddr, "ASN": asn, "Clients": clientsNet}
	if err := bgpd.Execute(&text, in); err != nil {
		return "", fmt.Errorf("write bgpd.conf of the %s: %w", name, err)
	}
	for file, content := range map[string][]byte{"bgpd.conf": text.Bytes(), "zebra.conf": nil} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
			return "", fmt.Errorf("write %s: %w", file, err)
		}
	}
	// Its user must be able to go there, and to make its sockets.
	if err := errors.Join(os.Chmod(r.sockets, 0o755), lab.FRROwned(dir)); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	return dir, nil
}

// frrDaemon starts one daemon, which becomes its own user.
func (r *run) frrDaemon(s *space, name, dir string, more ...string) (*program, error) {
	argv := []string{
		filepath.Join(frrFolder, name), "-P", "0", "-f", filepath.Join(dir, name+".conf"),
		"-i", filepath.Join(dir, name+".pid"), "--vty_socket", dir, "--log", "stdout", "--log-level", "warnings",
	}
	return launch(s, append(argv, more...)...)
}
