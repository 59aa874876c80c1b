package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"onlink/integration/bed"
	"onlink/integration/kube/cluster"
)

// options are the flags of up.
type options struct {
	cluster.Options

	proxy, cni string
	tors       bool
}

func (o *options) flags(c *cobra.Command) {
	flags := c.Flags()
	flags.IntVar(&o.NodesPerRack, "nodes", 2, "nodes of a rack")
	flags.IntVar(&o.Racks, "racks", 1, "racks: subnets with a ToR each")
	flags.IntVar(&o.ToRsPerRack, "tors-per-rack", 1, "1 or 2")
	flags.BoolVar(&o.DualStack, "dual", false, "IPv6 beside IPv4")
	flags.StringVar(&o.proxy, "proxy", string(cluster.ProxyNFTables), "kube-proxy's mode: nftables, iptables or none")
	flags.StringVar(&o.cni, "cni", string(cluster.CNINone), "network that the cluster brings: none or ptp")
	flags.BoolVar(&o.tors, "tors", false, "run BIRD on the ToRs")
	flags.BoolVar(&o.NodePodCIDRs, "node-pod-cidrs", false, "give each node a part of the pods' range")
	flags.StringSliceVar(&o.Taints, "register-with-taints", nil, "taints of new nodes, as kubelet takes them")
	flags.StringSliceVar(&o.Images, "image", nil, "image archives for every node")
	flags.StringVar(&o.Bin, "bin", "", "folder of Kubernetes' programs (default $"+cluster.BinVariable+", or what build made)")
}

// prepare installs packages and finds or builds the programs.
func (o *options) prepare(ctx context.Context) error {
	o.Proxy, o.CNI = cluster.ProxyMode(o.proxy), cluster.CNI(o.cni)
	if err := bed.Install(ctx, os.Stdout, bed.NeedKube); err != nil {
		return err
	}
	var err error
	o.Bin, err = programs(ctx, o.Bin)
	return err
}
