package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"onlink/integration/lab"
)

// machineScript is the first program of a machine: it puts files of its own over those
// of this host, so that a page may write /etc/onlink and install programs, and keeps
// the mount namespace.
const machineScript = `set -e
disk=$1 lab=$2 run=$3 etc=$4
mkdir -p "$disk"
mount -t tmpfs tmpfs "$disk"
mkdir -p "$disk/home" "$disk/run"
if [ -n "$run" ]; then
	mkdir -p "$disk/run/netns" "$disk/run/onlink" "$disk$lab"
	mount --rbind /run/netns "$disk/run/netns"
	mount --bind "$lab" "$disk$lab"
	mount --bind "$run" "$disk/run/onlink"
fi
for dir in /etc /opt /usr/local /var/lib /var/tmp /root /tmp; do
	mkdir -p "$disk$dir/upper" "$disk$dir/work"
	mount -t overlay overlay -o "lowerdir=$dir,upperdir=$disk$dir/upper,workdir=$disk$dir/work" "$dir"
done
if [ -n "$etc" ]; then mkdir -p /etc/onlink; mount --bind "$etc" /etc/onlink; fi
mount --rbind "$disk/home" /srv
mount --rbind "$disk/run" /run
touch /run/ready
exec sleep infinity
`

// Machine is a host of a bed: a network namespace of the lab, with files of its own.
type Machine struct {
	name  string
	ns    *lab.NS
	first *lab.Process // keeps the mount namespace
	dir   string       // of its logs
	units map[string][]*lab.Process
	hosts *Hosts // of the bed
}

// newMachine makes the files of a host in a bed. run and etc are the folders of a running
// agent that are its /run/onlink and /etc/onlink; empty: none.
func (h *Hosts) newMachine(ctx context.Context, name string, ns *lab.NS, run, etc string) error {
	m := &Machine{name: name, ns: ns, dir: filepath.Join(h.lab.Dir, "machine-"+name), units: map[string][]*lab.Process{}, hosts: h}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	var err error
	m.first, err = ns.Start("files of "+name, filepath.Join(m.dir, "log"), "unshare", "--mount", "--propagation", "slave", "bash", "-c", machineScript, "bash", "/mnt", h.lab.Dir, run, etc)
	if err != nil {
		return err
	}
	h.machines[name] = m
	return lab.Started(ctx, m.first, func() error {
		_, err := os.Stat(m.path("/run/ready"))
		return err
	})
}

// close ends the machine's programs.
func (m *Machine) close() error {
	var errs []error
	for name := range m.units {
		errs = append(errs, m.stop(name))
	}
	return errors.Join(append(errs, m.first.Kill())...)
}

// path names a file of the machine as this process sees it.
func (m *Machine) path(file string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.first.Pid(), file)
}

// inside returns the command line that runs a program on the machine.
func (m *Machine) inside(argv ...string) []string {
	pid := strconv.Itoa(m.first.Pid())
	return append([]string{"nsenter", "--target", pid, "--mount", "--net", "--wdns=/srv"}, argv...)
}

// env is the environment of commands on the machine.
func (m *Machine) env() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:" + m.hosts.lab.Bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/srv", "TERM=" + os.Getenv("TERM")}
}

// errExit is the error of a command that ends with another exit code than the page says.
var errExit = errors.New("exit code")

// Run runs a command of a page and returns what it prints on both outputs.
func (m *Machine) Run(ctx context.Context, c Command) (string, error) {
	switch words := strings.Fields(c.Text); words[0] {
	case "systemctl":
		return "", m.systemctl(ctx, words[1:])
	case "scp":
		return "", m.copyTo(words[1:len(words)-1], words[len(words)-1])
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	argv := m.inside("bash", "-ec", c.Text)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = m.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The shell's children go with it when the time is over: one that lives holds the
	// output open, and Run would wait for ever.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// On a thread of its own: the signal comes when the thread ends that started it, and
	// Go ends those that a namespace was entered on.
	err := m.ns.Do(cmd.Run)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out.String(), err
	}
	if code := cmd.ProcessState.ExitCode(); code != c.Exit {
		return out.String(), fmt.Errorf("%w %d, want %d\n%s", errExit, code, c.Exit, out.String())
	}
	return out.String(), nil
}

// copyTo is scp: no host of a bed has an SSH server.
func (m *Machine) copyTo(files []string, to string) error {
	host, dir, _ := strings.Cut(to, ":")
	peer := m.hosts.machines[host]
	if peer == nil {
		return fmt.Errorf("scp: no host %s", host)
	}
	for _, name := range files {
		if !filepath.IsAbs(name) {
			name = filepath.Join("/srv", name)
		}
		file := m.path(name)
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(peer.path(filepath.Join(dir, filepath.Base(name))), text, info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

// logs returns the end of what the machine's programs wrote.
func (m *Machine) logs() string {
	var out strings.Builder
	for unit, list := range m.units {
		for _, p := range list {
			fmt.Fprintf(&out, "%s on %s:\n%s\n", unit, m.name, p.Tail(15))
		}
	}
	return out.String()
}
