package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"onlink/internal/atomicfile"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
	"onlink/kube/render"
)

// bounded is how long [Init] waits when a file is there.
const bounded = 10 * time.Second

// InitOptions describe the first configuration of a node.
type InitOptions struct {
	Log       *slog.Logger
	Client    *client.Client
	Node      string // name of this machine's Node
	Namespace string // onlink's, where Secrets are
	// State is the agent's folder: onlinkd.yaml and keys are written there.
	State string
	// Certificates is the folder that has the agent's certificate.
	Certificates string
}

// Init writes the configuration that the agent starts with, and returns when it is
// there. It waits for the objects as long as there is none.
//
// A file that is there stays, because the agent's guard judges changes only of a
// running agent: a Node that reboots while its objects are gone must come up with
// the last good file. It is replaced only when the Node has another name or address
// by now, with which the agent could not start.
func Init(ctx context.Context, opt InitOptions) error {
	if err := certificate.Folder(opt.Certificates).Begin(opt.Node, time.Now()); err != nil {
		// A pod of a former manifest has no such folder: its node must come up.
		opt.Log.Error("failed to write the certificate that the agent starts with: apply the manifest of this version", "folder", opt.Certificates, "err", err)
	}
	path := filepath.Join(opt.State, "onlinkd.yaml")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the last good configuration: %w", err)
	}
	there := len(strings.TrimSpace(string(old))) > 0
	if there {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bounded)
		defer cancel()
	}
	out, err := first(ctx, opt, old)
	switch {
	case err != nil && there:
		opt.Log.Warn("the objects cannot be had, the agent starts with the last good configuration", "file", path, "err", err)
		return nil
	case err != nil:
		return err
	case there && moved(old, out.Config, local()):
		opt.Log.Error("the Node has an address that this machine does not have, the agent starts with the last good configuration: "+
			"see whether another machine registers the same Node", "file", path, "node", opt.Node)
		return nil
	case there && identity(old) == identity(out.Config):
		opt.Log.Info("the agent starts with the last good configuration; changes are applied to it while it runs", "file", path)
		return nil
	}
	if err := writeState(opt.State, out); err != nil {
		return err
	}
	opt.Log.Info("configuration written", "file", path, "replaced", there)
	return nil
}

// first waits for the objects and renders them.
func first(ctx context.Context, opt InitOptions, current []byte) (*render.Output, error) {
	changed := newBell()
	ctx, stop := context.WithCancel(ctx)
	o := newObjects(opt.Client, opt.Log, opt.Node, opt.Namespace, func(deletion) {}, changed)
	defer o.wait()
	defer stop()
	o.start(ctx)
	d := &desire{log: opt.Log, objects: o, drain: &drainer{at: serving}, meter: newMeter("")}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		out, wait, why := d.first(ctx, current)
		if out != nil {
			return out, nil
		}
		again.Stop()
		if wait > 0 {
			again.Reset(wait)
		}
		select {
		case <-ctx.Done():
			lines, _ := o.troubles()
			return nil, fmt.Errorf("wait for %s: %w", strings.Join(append([]string{why}, lines...), "; "), ctx.Err())
		case <-changed:
		case <-again.C:
		}
	}
}

// first renders for an agent that does not run yet; without an output why is what
// it waits for.
func (d *desire) first(ctx context.Context, current []byte) (out *render.Output, wait time.Duration, why string) {
	o := d.objects
	if kinds := o.unsynced(); len(kinds) > 0 {
		d.wait("the first lists of objects", kinds...)
		return nil, 0, "the first lists of " + strings.Join(kinds, ", ")
	}
	if _, ok := o.configs.get(v1alpha1.ConfigName); !ok {
		d.wait("the OnlinkConfig default, which the controller or an administrator creates")
		return nil, 0, d.waiting
	}
	in, err := d.gather(ctx, &has{text: string(current)}, &wait)
	if err == nil {
		out, err = d.render(ctx, in)
	}
	switch {
	case errors.Is(err, errWait):
		return nil, wait, d.waiting
	case err != nil:
		d.wait(err.Error())
		return nil, 0, d.waiting
	}
	return out, 0, ""
}

// identity is the section node of a configuration: with another one a database or
// the sockets would not be this node's.
func identity(text []byte) string {
	var file struct {
		Node map[string]any `json:"node"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil || reflect.ValueOf(file.Node).IsZero() {
		return ""
	}
	return fmt.Sprint(file.Node) // maps are printed in order
}

// moved reports whether a Node has another machine's address by now: this machine has
// the one of the file and not that of the Node. With the latter its agent could not
// start, and would leave name and blocks to that machine while pods run here.
func moved(old, next []byte, here []netip.Addr) bool {
	was, is := addressOf(old), addressOf(next)
	return was.IsValid() && is.IsValid() && slices.Contains(here, was) && !slices.Contains(here, is)
}

// addressOf returns the address that a configuration writes out.
func addressOf(text []byte) netip.Addr {
	var file struct {
		Node struct {
			Address string `json:"address"`
		} `json:"node"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(file.Node.Address) // a device or a network is none
	return a
}

// local returns the addresses of this machine; this process shares its network.
func local() (here []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // it cannot be judged
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			here = append(here, p.Addr())
		}
	}
	return here
}

// writeState writes the files of a rendering: the keys first, because the
// configuration names them. What is in force and has no object any more stays, with its
// keys: the agent's guard judges its removal once the agent runs.
func writeState(state string, out *render.Output) error {
	keys := filepath.Join(state, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	old, err := os.ReadDir(keys)
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	for name, content := range out.Keys {
		if err := atomicfile.Replace(filepath.Join(keys, name), content, 0o600); err != nil {
			return fmt.Errorf("write key: %w", err)
		}
	}
	text := out.Config
	if out.Kept != nil {
		text = out.Kept
	}
	if err := atomicfile.Replace(filepath.Join(state, "onlinkd.yaml"), text, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if out.Kept != nil {
		return nil
	}
	for _, f := range old {
		if _, ok := out.Keys[f.Name()]; !ok {
			if err := os.Remove(filepath.Join(keys, f.Name())); err != nil {
				return fmt.Errorf("remove a key that is not used: %w", err)
			}
		}
	}
	return nil
}
