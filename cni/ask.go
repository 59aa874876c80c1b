package cni

import "fmt"

// The annotations of a pod that choose its addresses. They reach the plugin where
// the network configuration declares the capability
// io.kubernetes.cri.pod-annotations.
const (
	annotationPools  = "onlink.io/pools"  // names, divided by commas
	annotationIPs    = "onlink.io/ips"    // addresses, divided by commas
	annotationSticky = "onlink.io/sticky" // "true" or a name
)

// choice returns the request's choice, with the pools of its namespace before those
// of the configuration. A pod that names pools or addresses itself has its own.
func (r *request) choice(namespaces func(string) []string) Ask {
	ask := r.ask
	if r.pooled || len(ask.Addresses) > 0 {
		return ask
	}
	if pools := namespaces(r.Namespace); len(pools) > 0 {
		ask.Pools = pools
	}
	return ask
}

// wish is one place of a request that may choose addresses.
type wish struct {
	field  string // for errors
	pools  []string
	ips    []string
	sticky string
}

// readAsk collects the choice of addresses. It reads the places in this order,
// and the first that sets a value counts, for pools, addresses and stickiness
// each: the pod's annotations, the runtime's capabilities, the configuration's
// args, CNI_ARGS, the configuration itself.
func (r *request) readAsk(args podArgs) error {
	an := r.conf.RuntimeConfig.Annotations
	wishes := []wish{
		{"annotation " + annotationIPs, words(an[annotationPools]), words(an[annotationIPs]), an[annotationSticky]},
		{field: "runtimeConfig.ips", ips: r.conf.RuntimeConfig.IPs},
		{"args.cni.ips", r.conf.Args.CNI.Pools, r.conf.Args.CNI.IPs, r.conf.Args.CNI.Sticky},
		{field: "CNI_ARGS", pools: args.pools, sticky: args.sticky},
		{pools: r.conf.Pools},
	}
	if args.ip.IsValid() {
		wishes[3].ips = []string{args.ip.String()}
	}
	if r.conf.Sticky {
		wishes[4].sticky = "true"
	}
	for i, w := range wishes {
		r.pooled = r.pooled || i < 4 && len(w.pools) > 0
		if len(r.ask.Pools) == 0 {
			r.ask.Pools = w.pools
		}
		if r.ask.Sticky == "" {
			r.ask.Sticky = w.sticky
		}
		if len(r.ask.Addresses) > 0 {
			continue
		}
		for _, s := range w.ips {
			addr, err := parseAddress(s)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", ErrConfig, w.field, err)
			}
			r.ask.Addresses = append(r.ask.Addresses, addr)
		}
	}
	switch r.ask.Sticky {
	case "true":
		r.ask.Sticky = r.Pod // empty for a pod without a name, which cannot be recognised
	case "false":
		r.ask.Sticky = ""
	}
	return nil
}
