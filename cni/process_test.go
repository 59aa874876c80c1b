package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// TestAgentDown runs every verb without an agent: ADD may be tried again, DEL
// fails so that the runtime repeats it, STATUS returns the reason.
func TestAgentDown(t *testing.T) {
	for verb, code := range map[string]uint{"ADD": 11, "DEL": 11, "CHECK": 11, "GC": 11, "STATUS": 50} {
		t.Run(verb, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.stop()
			c := add(pod).as(verb)
			o := n.fails(c, code)
			if !strings.Contains(o.Details, n.socket) || o.CNIVersion != "1.1.0" {
				t.Errorf("answer %+v does not name the socket", o)
			}
			if err := os.WriteFile(n.socket, nil, 0o600); err != nil { // a file where the socket was
				t.Fatal(err)
			}
			n.fails(c, code)
		})
	}
}

// TestTimeout makes the agent slower than the configured timeout.
func TestTimeout(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.set(func() { n.ipam.block = make(chan struct{}) })
	c := add(pod)
	c.conf = map[string]any{"timeout": 1}
	n.fails(c, 11)
	n.ipam.set(func() { close(n.ipam.block); n.ipam.block = nil })
	eventually(t, func() error {
		if len(n.ipam.Attachments()) != 0 {
			return errors.New("lease left")
		}
		return nil
	})
	n.clean()
}

// TestSilentAgent connects to a listener that accepts nothing: the timeout
// ends the wait all the same.
func TestSilentAgent(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.stop()
	l, err := net.Listen("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c := add(pod)
	c.conf = map[string]any{"timeout": 1}
	if o := n.fails(c, 11); !strings.Contains(o.Details, "timeout") {
		t.Errorf("answer %+v", o)
	}
}

// TestKilled kills the plugin in the middle of ADD: the agent cancels the
// request and leaves nothing behind.
func TestKilled(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	n.ipam.set(func() { n.ipam.block = make(chan struct{}) })
	cmd := n.command(context.Background(), add(pod))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		n.ipam.mu.Lock()
		defer n.ipam.mu.Unlock()
		if n.ipam.waiting == 0 {
			return errors.New("ADD did not reach IPAM")
		}
		return nil
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, func() error {
		n.ipam.mu.Lock()
		defer n.ipam.mu.Unlock()
		if n.ipam.waiting != 0 {
			return errors.New("request still runs")
		}
		return nil
	})
	n.ipam.set(func() { n.ipam.block = nil })
	n.clean()
	n.ok(add(pod))
}

// TestCancelUndo kills the plugin when its lease is made already: the agent
// releases it without a DEL.
func TestCancelUndo(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cmd := n.command(ctx, add(pod))
	n.ipam.set(func() {
		n.ipam.assigned = func(request context.Context) {
			cancel()
			<-request.Done()
		}
	})
	if out, err := cmd.Output(); err == nil {
		t.Fatalf("the killed plugin succeeded: %s", out)
	}
	n.ipam.set(func() { n.ipam.assigned = nil })
	eventually(t, func() error {
		if len(n.ipam.Attachments()) != 0 {
			return errors.New("lease left")
		}
		return nil
	})
	n.clean()
}

// TestNotRoot refuses callers that are not root even where the socket's mode
// admits them.
func TestNotRoot(t *testing.T) {
	n, pod := newNode(t), newSpace(t)
	for path, mode := range map[string]os.FileMode{n.dir: 0o755, n.socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile(filepath.Join(n.dir, PluginName))
	if err != nil {
		t.Fatal(err)
	}
	// The test binary may be in a directory that only root can enter.
	if err := errors.Join(os.Mkdir(filepath.Join(n.dir, "bin"), 0o755),
		os.WriteFile(filepath.Join(n.dir, "bin", PluginName), self, 0o755)); err != nil {
		t.Fatal(err)
	}
	c := add(pod)
	cmd := n.command(t.Context(), c)
	cmd.Path = filepath.Join(n.dir, "bin", PluginName)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err == nil || !strings.Contains(string(out), `"code":11`) {
		t.Errorf("ADD by nobody: %v: %s", err, out)
	}
	n.clean()
}

// TestSocketMode checks that only root may open the socket, and that a killed
// agent's is replaced.
func TestSocketMode(t *testing.T) {
	n := newNode(t)
	info, err := os.Stat(n.socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v (%v), want 0600", info.Mode(), err)
	}
	n.stop()
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.socket})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	n.start()
	n.ok(call{verb: "STATUS"})
}

// TestLibcni drives the plugin as containerd does.
func TestLibcni(t *testing.T) {
	n := newNode(t)
	text, err := Conflist(n.socket)
	if err != nil {
		t.Fatal(err)
	}
	list, err := libcni.NetworkConfFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{n.dir}, filepath.Join(n.dir, "cache"), nil)
	ctx := t.Context()
	if _, err := cni.ValidateNetworkList(ctx, list); err != nil {
		t.Fatal(err)
	}
	pod := newSpace(t)
	rt := &libcni.RuntimeConf{ContainerID: testID, NetNS: pod.path, IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"},
		{"K8S_POD_NAMESPACE", "default"},
		{"K8S_POD_NAME", "web-0"},
		{"K8S_POD_INFRA_CONTAINER_ID", testID},
		{"K8S_POD_UID", "u-1"},
	}}
	raw, err := cni.AddNetworkList(ctx, list, rt)
	if err != nil {
		t.Fatal(err)
	}
	result, err := types100.NewResultFromResult(raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.IPs) != 1 || result.IPs[0].Address.String() != "10.65.0.1/32" || raw.Version() != "1.0.0" {
		t.Errorf("result %s of version %s", result.IPs, raw.Version())
	}
	if err := cni.CheckNetworkList(ctx, list, rt); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if err := cni.DelNetworkList(ctx, list, rt); err != nil {
		t.Errorf("DEL: %v", err)
	}
	rt.NetNS = ""
	if err := cni.DelNetworkList(ctx, list, rt); err != nil {
		t.Errorf("second DEL: %v", err)
	}
	n.clean()
}

// TestManyPods adds and deletes pods at once, beside DELs of pods that another
// request is adding.
func TestManyPods(t *testing.T) {
	n := newNode(t)
	const pods = 20
	var wg sync.WaitGroup
	for i := range pods {
		pod := newSpace(t)
		c := call{verb: "ADD", id: fmt.Sprintf("pod-%d", i), ifname: "eth0", netns: pod.path}
		wg.Go(func() {
			if code, out := n.run(c); code != 0 {
				t.Errorf("ADD %s: %s", c.id, out)
			}
			if code, out := n.run(c.as("DEL")); code != 0 {
				t.Errorf("DEL %s: %s", c.id, out)
			}
		})
		if i%4 == 0 {
			wg.Go(func() {
				if code, out := n.run(c.as("DEL")); code != 0 {
					t.Errorf("racing DEL %s: %s", c.id, out)
				}
			})
		}
	}
	wg.Wait()
	n.clean()
}

// TestBinary builds the real plugin and runs it once through its life.
func TestBinary(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the Go toolchain")
	}
	if inUML() {
		t.Skip("needs a native kernel: a build takes a minute in user-mode Linux")
	}
	n, pod := newNode(t), newSpace(t)
	path := filepath.Join(n.dir, PluginName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), tool, "build", "-trimpath", "-ldflags=-s -w", "-o", path, "onlink/cmd/onlink-cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	n.ok(call{verb: "VERSION"})
	check := add(pod).as("CHECK")
	check.conf = withPrev(t, nil, n.ok(add(pod)))
	n.ok(check)
	n.ok(add(pod).as("DEL"))
	n.fails(call{verb: "ADD", stdin: bytes.Repeat([]byte("x"), 1<<20)}, 7)
	n.stop()
	n.fails(add(pod), 11)
	n.clean()
}

// TestConflist checks the default list and the refusal of a relative socket.
func TestConflist(t *testing.T) {
	text, err := Conflist("")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", ConflistName), string(text))
	if _, err := Conflist("cni.sock"); !errors.Is(err, ErrConfig) {
		t.Errorf("relative socket: %v", err)
	}
}

// TestKeyLock checks order, cancellation and that no key is kept.
func TestKeyLock(t *testing.T) {
	var l keyLock
	unlock, err := l.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := l.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v", err)
	}
	other, err := l.lock(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	unlock()
	if len(l.keys) != 0 {
		t.Errorf("keys left: %v", l.keys)
	}
}
