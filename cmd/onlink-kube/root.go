package main

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"onlink/internal/version"
	"onlink/kube/client"
)

const (
	defaultNamespace = "onlink"
	// calls and burst bound the requests of one process to the API server. Watches
	// count once, when they begin.
	calls, burst = 20, 40
)

// app is what the subcommands share.
type app struct {
	kubeconfig string
	namespace  string
	level      string
}

// command returns the whole command tree.
func command() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "onlink-kube",
		Short: "Connect onlink with a Kubernetes cluster",
		Long: `onlink-kube renders the objects of a Kubernetes cluster into the configuration and
the announcements of the agents, serves the block registry to them, and shows their state
in the cluster. Each node runs init once and node beside onlinkd; controller runs in
two replicas, one of which is active.`,
		Example: `  onlink-kube node --node-name worker1        # beside onlinkd; NODE_NAME in a pod
  onlink-kube init --state /var/lib/onlink    # the file that onlinkd starts with
  onlink-kube controller --kubeconfig admin.conf`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, then the service account of the pod, then ~/.kube/config)")
	f.StringVar(&a.namespace, "namespace", env("ONLINK_NAMESPACE", defaultNamespace), "namespace of onlink's Secrets and Leases (env ONLINK_NAMESPACE)")
	f.StringVar(&a.level, "log-level", "info", "debug, info, warn or error")
	root.AddCommand(initCommand(a), nodeCommand(a), controllerCommand(a), queueCommand(), versionCommand())
	return root
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// open returns the log and the client of the API server.
func (a *app) open() (*slog.Logger, *client.Client, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.level)); err != nil {
		return nil, nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", a.level)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if level > slog.LevelDebug {
		// The library logs each failed try of each watch; ours logs the first.
		klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	} else {
		klog.SetSlogLogger(log)
	}
	cfg, err := a.config()
	if err != nil {
		return nil, nil, err
	}
	cfg.QPS, cfg.Burst, cfg.UserAgent = calls, burst, "onlink-kube/"+version.Get().Version
	c, err := client.New(cfg)
	return log, c, err
}

// config returns the API server's address and the credentials: of the flag, else of
// $KUBECONFIG, else of the pod, else of kubectl's file, as people know it from the
// programs that use client-go.
func (a *app) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if a.kubeconfig == "" && os.Getenv("KUBECONFIG") == "" {
		if cfg, err := rest.InClusterConfig(); err == nil {
			return cfg, nil
		}
	}
	rules.ExplicitPath = a.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w; run in a pod, or set --kubeconfig", err)
	}
	return cfg, nil
}

// nodeFlag adds --node-name.
func nodeFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "node-name", os.Getenv("NODE_NAME"), "name of this machine's Node (env NODE_NAME)")
}

// need rejects a flag without a value.
func need(flag, value, from string) error {
	if strings.TrimSpace(value) == "" {
		return fmt.Errorf("--%s is empty: set it, or %s in the environment", flag, from)
	}
	return nil
}
