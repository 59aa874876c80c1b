package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"onlink/integration/lab"
)

// unit is what a bed uses of a systemd unit: keys and their values, in order.
type unit struct {
	name string
	keys map[string][]string
}

// unit reads the unit that the machine has, or else Debian's of this host.
func (m *Machine) unit(name string) (unit, error) {
	for _, dir := range []string{"/etc/systemd/system", "/lib/systemd/system"} {
		text, err := os.ReadFile(m.path(filepath.Join(dir, name+".service")))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return unit{}, err
		}
		u := unit{name, map[string][]string{}}
		specifiers := strings.NewReplacer("%p", name, "%H", m.name)
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				u.keys[key] = append(u.keys[key], specifiers.Replace(value))
			}
		}
		return u, nil
	}
	return unit{}, fmt.Errorf("there is no unit %s", name)
}

// shell returns the script that runs the unit's commands of a key: with its
// environment, each in turn.
func (u unit) shell(key string) string {
	var out strings.Builder
	for _, value := range u.keys["Environment"] {
		fmt.Fprintf(&out, "export %s\n", value)
	}
	for _, file := range u.keys["EnvironmentFile"] {
		fmt.Fprintf(&out, "[ ! -e %[1]s ] || { set -a; . %[1]s; set +a; }\n", strings.TrimPrefix(file, "-"))
	}
	// A program that changes its user loses the signal that ends it with a killed test.
	out.WriteString("export BIRD_RUN_USER=root BIRD_RUN_GROUP=root\n")
	for _, command := range u.keys[key] {
		if key == "ExecStart" {
			command = "exec " + command
		}
		out.WriteString(command + "\n")
	}
	return out.String()
}

// systemctl does what systemd would: it runs the commands of a unit on the machine.
func (m *Machine) systemctl(ctx context.Context, args []string) error {
	verb, name := args[0], args[len(args)-1]
	switch verb {
	case "daemon-reload":
		return nil
	case "stop", "disable":
		return m.stop(name)
	case "enable", "start", "restart":
		if err := m.stop(name); err != nil {
			return err
		}
		return m.start(ctx, name)
	case "reload":
		u, err := m.unit(name)
		if err != nil {
			return err
		}
		_, err = m.Run(ctx, Command{Text: u.shell("ExecReload")})
		return err
	}
	return fmt.Errorf("systemctl %s: no bed does that", verb)
}

func (m *Machine) stop(name string) error {
	var errs []error
	for _, p := range m.units[name] {
		errs = append(errs, p.Stop())
	}
	delete(m.units, name)
	return errors.Join(errs...)
}

// start starts the program of a unit, or those of FRR, whose unit calls a script that
// makes daemons.
func (m *Machine) start(ctx context.Context, name string) error {
	if name == "frr" {
		return m.startFRR(ctx)
	}
	u, err := m.unit(name)
	if err != nil {
		return err
	}
	for _, dir := range u.keys["RuntimeDirectory"] {
		err = errors.Join(err, os.MkdirAll(m.path("/run/"+dir), 0o755))
	}
	for _, dir := range u.keys["StateDirectory"] {
		err = errors.Join(err, os.MkdirAll(m.path("/var/lib/"+dir), 0o700))
	}
	if err != nil {
		return err
	}
	if _, err := m.Run(ctx, Command{Text: "set -e\n" + u.shell("ExecStartPre")}); err != nil {
		return err
	}
	_, err = m.daemon(name, "bash", "-c", u.shell("ExecStart"))
	return err
}

// daemon starts a program of a unit.
func (m *Machine) daemon(name string, argv ...string) (*lab.Process, error) {
	p, err := m.ns.Start(name+" on "+m.name, filepath.Join(m.dir, name+".log"), m.inside(argv...)...)
	if err == nil {
		m.units[name] = append(m.units[name], p)
	}
	return p, err
}

// startFRR starts zebra, and bgpd where /etc/frr/daemons says so, and has vtysh read the
// one file of both.
func (m *Machine) startFRR(ctx context.Context) error {
	if _, err := m.Run(ctx, Command{Text: "install -d -o frr -g frr /run/frr /var/tmp/frr"}); err != nil {
		return err
	}
	daemons, err := os.ReadFile(m.path("/etc/frr/daemons"))
	if err != nil {
		return err
	}
	for _, d := range []struct{ program, socket string }{{"zebra", "zserv.api"}, {"bgpd", "bgpd.vty"}} {
		if d.program != "zebra" && !strings.Contains(string(daemons), "\n"+d.program+"=yes\n") {
			continue
		}
		p, err := m.daemon("frr", "/usr/lib/frr/"+d.program, "--log", "stdout")
		if err != nil {
			return err
		}
		err = lab.Started(ctx, p, func() error { _, err := os.Stat(m.path("/run/frr/" + d.socket)); return err })
		if err != nil {
			return err
		}
	}
	_, err = m.Run(ctx, Command{Text: "vtysh -b"})
	return err
}
