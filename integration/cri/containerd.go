package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"onlink/integration/lab"
)

// Containerd is a containerd of its own, with everything it has in one folder.
// It runs in a node's network namespace.
type Containerd struct {
	BinDir, ConfDir string // where it looks for CNI plugins and configurations

	dir  string
	node *lab.Node
	proc *lab.Process
}

// start is how long containerd may take until it answers.
const startTime = 60 * time.Second

const configText = `version = 2
root = %[1]q
state = %[2]q
[grpc]
  address = %[3]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[4]q
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[5]q
    conf_dir = %[6]q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`

// New prepares a containerd for a node in an empty folder, whose path must be
// short: containerd makes unix sockets in it.
func New(n *lab.Node, dir string) (*Containerd, error) {
	c := &Containerd{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), dir: dir, node: n}
	for _, d := range []string{c.BinDir, c.ConfDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("prepare containerd: %w", err)
		}
	}
	text := fmt.Sprintf(configText, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.Socket(), PauseImage, c.BinDir, c.ConfDir)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("prepare containerd: %w", err)
	}
	return c, nil
}

// Socket is where containerd serves CRI.
func (c *Containerd) Socket() string { return filepath.Join(c.dir, "c.sock") }

// Start starts containerd and waits until it answers.
func (c *Containerd) Start(ctx context.Context) error {
	var err error
	c.proc, err = c.node.Daemon("containerd", filepath.Join(c.dir, "log"), "containerd", "-c", filepath.Join(c.dir, "config.toml"))
	if err != nil {
		return err
	}
	err = lab.Eventually(ctx, startTime, "containerd answers", func() error {
		if c.proc.Exited() {
			return errors.New("containerd has ended")
		}
		return c.initialised(ctx)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.proc.Tail(20))
	}
	return nil
}

// initialised reports whether the part that serves CRI has read its state: it
// answers calls before that with an error.
func (c *Containerd) initialised(ctx context.Context) error {
	client, err := Dial(c.Socket())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = client.List(ctx)
	return errors.Join(err, client.Close())
}

// Load imports the image that pods run, of a static program.
func (c *Containerd) Load(ctx context.Context, program string) error {
	path := filepath.Join(c.dir, "pause.tar")
	if err := WriteImage(path, program); err != nil {
		return err
	}
	return c.ctr(ctx, "-n", "k8s.io", "images", "import", path)
}

// Stop ends containerd with SIGTERM. The pods go on.
func (c *Containerd) Stop() error { return c.proc.Stop() }

// Kill ends containerd with SIGKILL. The pods go on.
func (c *Containerd) Kill() error { return c.proc.Kill() }

// Tail returns the end of containerd's log.
func (c *Containerd) Tail() string {
	if c.proc == nil {
		return ""
	}
	return c.proc.Tail(12)
}

func (c *Containerd) ctr(ctx context.Context, args ...string) error {
	text, err := exec.CommandContext(ctx, "ctr", append([]string{"-a", c.Socket()}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", args[0], err, text)
	}
	return nil
}
