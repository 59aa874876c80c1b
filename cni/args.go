package cni

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// podArgs are the arguments of CNI_ARGS that onlink reads.
type podArgs struct {
	namespace, pod, uid string // K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID
	ip                  netip.Addr
	pools               []string // ONLINK_POOLS, divided by commas
	sticky              string   // ONLINK_STICKY
	mac                 string
}

// parseArgs reads CNI_ARGS: "KEY=VALUE" pairs divided by semicolons, in any
// order. An unknown key is an error unless IgnoreUnknown is true, at any place in
// the list (the reference plugins do the same). The error is the first mistake;
// the valid arguments beside it are returned all the same.
func parseArgs(s string) (podArgs, error) {
	var a podArgs
	var first error
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			first = cmp.Or(first, fmt.Errorf("%w: CNI_ARGS: %q is not KEY=VALUE", ErrEnvironment, pair))
			continue
		}
		var err error
		switch key {
		case "IgnoreUnknown":
			ignore, err = parseBool(value)
		case "K8S_POD_NAMESPACE":
			a.namespace = value
		case "K8S_POD_NAME":
			a.pod = value
		case "K8S_POD_UID":
			a.uid = value
		case "K8S_POD_INFRA_CONTAINER_ID": // the same as CNI_CONTAINERID
		case "IP":
			a.ip, err = parseAddress(value)
		case "ONLINK_POOLS":
			a.pools = words(value)
		case "ONLINK_STICKY":
			a.sticky = value
		case "MAC":
			a.mac = value
		default:
			unknown = append(unknown, key)
		}
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("%w: CNI_ARGS: %s: %w", ErrEnvironment, key, err))
		}
	}
	if first == nil && len(unknown) > 0 && !ignore {
		first = fmt.Errorf("%w: CNI_ARGS: unknown keys %q; set IgnoreUnknown=1 to have them ignored", ErrEnvironment, unknown)
	}
	return a, first
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

// words splits a list at commas; spaces and empty words do not count.
func words(s string) []string {
	var out []string
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
