package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"onlink/internal/version"
	"onlink/kube/controller"
)

// Validities of a node's certificate. The successor of an authority signs once it was known
// for the longest one, and is made fifteen months before the authority ends.
const (
	shortestLife = time.Minute
	defaultLife  = 7 * 24 * time.Hour
	longestLife  = 365 * 24 * time.Hour
)

func controllerCommand(a *app) *cobra.Command {
	var opt controller.Options
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Do once for the cluster what no node can do alone",
		Long: `controller assigns addresses to Services of type LoadBalancer, frees the blocks of deleted
nodes, writes the status of the configuration objects, makes the first ones, and issues the
certificates of the nodes. Of several replicas one works, the holder of the Lease
controller.onlink.io.`,
		Example: `  onlink-kube controller --defaults /etc/onlink/defaults.yaml
  onlink-kube controller --kubeconfig admin.conf --identity me`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need("identity", opt.Identity, "POD_NAME"); err != nil {
				return err
			}
			if life := opt.CertificateLife; life < shortestLife || life > longestLife {
				return fmt.Errorf("--certificate-life %s: use 1m to 8760h", life)
			}
			var err error
			if opt.Log, opt.Client, err = a.open(); err != nil {
				return err
			}
			opt.Namespace = a.namespace
			opt.Version = version.Get().Version
			return controller.Run(cmd.Context(), opt)
		},
	}
	host, _ := os.Hostname() // without one the flag is required
	f := cmd.Flags()
	f.StringVar(&opt.Identity, "identity", env("POD_NAME", host), "name of this replica (env POD_NAME, then the host's name)")
	f.StringVar(&opt.Defaults, "defaults", "", "file with the first OnlinkConfig and IPPools; empty: none are made")
	f.StringVar(&opt.Health, "health", "127.0.0.1:9180", "address and port of /healthz, /readyz and /metrics; empty: none")
	f.BoolVar(&opt.TaintNewNodes, "taint-new-nodes", true, "put the taint onlink.io/agent-not-ready on new Nodes")
	f.StringToStringVar(&opt.NodeSelector, "node-selector", nil, "LABEL=VALUE of the Nodes that onlink runs on, which alone are tainted (default: all)")
	f.DurationVar(&opt.CertificateLife, "certificate-life", defaultLife, "validity of the certificates that nodes get for the API of their agents, 1m to 8760h")
	f.BoolVar(&opt.PolicyEnforced, "policy-enforced", false, "the cluster runs something that enforces NetworkPolicies: warn of none")
	f.StringVar(&opt.PolicyDaemonSet, "policy-daemonset", "", "DaemonSet in onlink's namespace that enforces NetworkPolicies once its pods are ready")
	cmd.MarkFlagsMutuallyExclusive("policy-enforced", "policy-daemonset")
	return cmd
}
