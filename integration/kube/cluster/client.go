package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"onlink/integration/lab"
)

// dialer returns what opens connections from inside a network namespace.
func dialer(ns func() *lab.NS) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		// The address is a literal, so the socket is made on the calling thread.
		err = ns().Do(func() error {
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// configure makes Config.
func (c *Cluster) configure() {
	c.Config = &rest.Config{
		Host: c.credentials.server, BearerToken: c.token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.credentials.file("ca.crt")},
		Dial:            dialer(func() *lab.NS { return c.Control.NS }),
		QPS:             -1, // the tests hold nothing back
	}
}

// get is GET of a path of the API server.
func (c *Cluster) get(ctx context.Context, path string) (string, error) {
	client, err := rest.HTTPClientFor(c.Config)
	if err != nil {
		return "", fmt.Errorf("make client: %w", err)
	}
	return get(ctx, client, c.Config.Host+path)
}

// Client-go's clients, as administrator.

// Clientset returns a client of the types that Kubernetes has.
func (c *Cluster) Clientset() (*kubernetes.Clientset, error) {
	set, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return set, nil
}

// Dynamic returns a client of any type.
func (c *Cluster) Dynamic() (*dynamic.DynamicClient, error) {
	client, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

// Kubeconfig is the administrator's file, for programs in the cluster's network
// namespaces.
func (c *Cluster) Kubeconfig() string { return c.credentials.file(admin + ".conf") }

// Credentials names a file of the cluster's: NAME.conf is the kubeconfig of a node
// or a program of the control plane, ca.crt the authority.
func (c *Cluster) Credentials(name string) string { return c.credentials.file(name) }

// Kubectl runs kubectl as administrator and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args...)
}

// Apply is `kubectl apply -f` of a manifest.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	_, err := c.kubectl(ctx, manifest, "apply", "-f", "-")
	return err
}

// Delete is `kubectl delete -f` of a manifest; it waits for the end of the objects.
func (c *Cluster) Delete(ctx context.Context, manifest string) error {
	_, err := c.kubectl(ctx, manifest, "delete", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	var out, stderr bytes.Buffer
	err := c.Control.NS.Do(func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(c.Options.Bin, "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+c.Lab.Dir) // its cache
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd.Run()
	})
	if err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), errors.Join(err, ctx.Err()), stderr.String())
	}
	return out.String(), nil
}

// Forward makes the API server reachable at an address of this machine, such as
// 127.0.0.1:0, until the cluster's end, and returns a kubeconfig for there.
func (c *Cluster) Forward(ctx context.Context, address string) (string, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("forward API server: %w", err)
	}
	c.forward = listener
	go c.accept(context.WithoutCancel(ctx), listener)
	path := c.credentials.file("host.conf")
	text := kubeconfig("https://"+listener.Addr().String(), c.credentials.file("ca.crt"), c.token)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return path, nil
}

// accept joins each connection with one to the API server.
func (c *Cluster) accept(ctx context.Context, listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return // closed by Stop
		}
		go func() {
			defer near.Close()
			far, err := c.Config.Dial(ctx, "tcp", net.JoinHostPort(c.Control.Addr.String(), apiPort))
			if err != nil {
				return // the caller sees the connection's end
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near) // ends with either
				_ = far.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}

// HTTPClient returns a client that connects from inside a network namespace, with
// a new connection for every request: a service balances connections.
func HTTPClient(ns *lab.NS) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       dialer(func() *lab.NS { return ns }),
		DisableKeepAlives: true,
	}}
}

// get is GET of a URL; anything but 200 is an error.
func get(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	reply, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, reply.Status, text)
	}
	return string(text), err
}
