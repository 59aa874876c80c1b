package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
)

// socket is where the process that holds a cluster takes calls.
func socket(name string) string { return filepath.Join(lab.Folder(name), "control.sock") }

// serve takes calls until one of them, or ctx, ends the cluster.
func serve(ctx context.Context, c *cluster.Cluster, ready func() error) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", socket(c.Options.Name))
	if err != nil {
		return fmt.Errorf("listen for calls: %w", err)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	server := &http.Server{Handler: calls(c, end), ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_ = server.Shutdown(late)
	}()
	if err := ready(); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve calls: %w", err)
	}
	return nil
}

func calls(c *cluster.Cluster, end func()) http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, f func(ctx context.Context, args []string, out io.Writer) error) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := f(r.Context(), r.URL.Query()["arg"], w); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	node := func(path string, f func(ctx context.Context, n *cluster.Node, out io.Writer) error) {
		handle(path, func(ctx context.Context, args []string, out io.Writer) error {
			i := slices.IndexFunc(c.Nodes, func(n *cluster.Node) bool { return slices.Equal(args, []string{n.Name}) })
			if i < 0 {
				return fmt.Errorf("no node %s", args)
			}
			return f(ctx, c.Nodes[i], out)
		})
	}
	node("/cut", func(_ context.Context, n *cluster.Node, _ io.Writer) error { return n.Cut() })
	node("/boot", func(ctx context.Context, n *cluster.Node, _ io.Writer) error { return n.Boot(ctx) })
	node("/pid", func(_ context.Context, n *cluster.Node, out io.Writer) error {
		_, err := fmt.Fprint(out, n.PID())
		return err
	})
	handle("/pause", func(_ context.Context, args []string, _ io.Writer) error { return c.Pause(args...) })
	handle("/resume", func(_ context.Context, args []string, _ io.Writer) error { return c.Resume(args...) })
	handle("/load", func(ctx context.Context, args []string, _ io.Writer) error { return c.LoadImages(ctx, args...) })
	handle("/logs", func(ctx context.Context, _ []string, out io.Writer) error {
		_, err := io.WriteString(out, c.Logs(40)+c.PodLogs(ctx, 40))
		return err
	})
	handle("/down", func(context.Context, []string, io.Writer) error { end(); return nil })
	return mux
}

// call makes a call and returns the answer.
func call(ctx context.Context, name, path string, args []string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket(name))
	}}}
	target := url.URL{Scheme: "http", Host: "cluster", Path: path, RawQuery: url.Values{"arg": args}.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), http.NoBody)
	if err != nil {
		return "", err
	}
	reply, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("call cluster %s: %w", name, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), err
}

func send(ctx context.Context, name, path string, args []string) error {
	if path == "/load" {
		for i := range args {
			var err error
			if args[i], err = filepath.Abs(args[i]); err != nil {
				return err
			}
		}
	}
	text, err := call(ctx, name, path, args)
	if err != nil {
		return err
	}
	return copyOut(strings.NewReader(text))
}

// down ends a cluster, or removes what is left of one that was killed.
func down(ctx context.Context, name string) error {
	_, err := call(ctx, name, "/down", nil)
	if err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return lab.Eventually(ctx, time.Minute, "end of cluster "+name, func() error { return cluster.Remove(name) })
}

// enter becomes a command inside a node or a host.
func enter(name *string) *cobra.Command {
	c := &cobra.Command{
		Use: "enter NODE COMMAND...", Short: "run a command inside a node, or a host (client, control, tor1)", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := call(c.Context(), *name, "/pid", args[:1])
			if err != nil {
				return become(append([]string{"ip", "netns", "exec", *name + "." + args[0]}, args[1:]...))
			}
			if pid, err := strconv.Atoi(text); err != nil || pid == 0 {
				return fmt.Errorf("%s has no power", args[0])
			}
			return become(append([]string{"nsenter", "-t", text, "-m", "-u", "-n", "-p", "--"}, args[1:]...))
		},
	}
	c.Flags().SetInterspersed(false) // what follows is the command's
	return c
}

func kubectl(name *string) *cobra.Command {
	c := &cobra.Command{
		Use: "kubectl ARGS...", Short: "run kubectl as administrator",
		RunE: func(_ *cobra.Command, args []string) error {
			return become(append([]string{filepath.Join(lab.Folder(*name), "kubectl")}, args...))
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

// become replaces this process.
func become(argv []string) error {
	for _, dir := range append([]string{""}, strings.Split("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ":")...) {
		path := filepath.Join(dir, argv[0])
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(path) {
			return fmt.Errorf("run %s: %w", path, syscall.Exec(path, argv, os.Environ()))
		}
	}
	return fmt.Errorf("find program %s: %w", argv[0], os.ErrNotExist)
}

// copyOut passes an answer on.
func copyOut(r io.Reader) error {
	if _, err := io.Copy(os.Stdout, r); err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	return nil
}
