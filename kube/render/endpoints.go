package render

import (
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoints are the numbers of a Service's endpoints of one family.
type endpoints struct {
	here, readyHere, servingHere int // on this node; serving: terminating, and still serving
	all, ready, serving          int // in the cluster
}

// serviceKey names a Service.
type serviceKey struct{ namespace, name string }

// families are the endpoints of a Service: IPv4, then IPv6.
type families [2]endpoints

// countEndpoints counts the endpoints of all Services.
func countEndpoints(slices []*discoveryv1.EndpointSlice, node string) map[serviceKey]*families {
	bySet := map[serviceKey][]*discoveryv1.EndpointSlice{}
	for _, s := range slices {
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			key := serviceKey{s.Namespace, name}
			bySet[key] = append(bySet[key], s)
		}
	}
	out := make(map[serviceKey]*families, len(bySet))
	for key, list := range bySet {
		f := &families{}
		out[key] = f
		if len(list) == 1 {
			for i := range list[0].Endpoints {
				f.add(list[0].AddressType, stateOf(&list[0].Endpoints[i], node))
			}
			continue
		}
		f.addAll(list, node)
	}
	return out
}

// endpoint is the state of one endpoint.
type endpoint struct {
	here           bool
	ready, serving bool // serving: terminating, and still serving
}

// stateOf reads the conditions of an endpoint. An absent ready means yes, an absent
// serving the same as ready. Ready is also an endpoint that the Service publishes
// without readiness (publishNotReadyAddresses): kube-proxy forwards to it.
func stateOf(e *discoveryv1.Endpoint, node string) endpoint {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	return endpoint{here: e.NodeName != nil && *e.NodeName == node, ready: ready, serving: !ready && serving && terminating}
}

// addAll counts the endpoints of several slices. One that is in two of them, as
// with named ports or while it moves from one to another, counts once, in its best
// state.
func (f *families) addAll(list []*discoveryv1.EndpointSlice, node string) {
	type place struct {
		family discoveryv1.AddressType
		addr   string
	}
	best := map[place]endpoint{}
	for _, s := range list {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			at := place{s.AddressType, e.Addresses[0]}
			have, now := best[at], stateOf(e, node)
			best[at] = endpoint{here: have.here || now.here, ready: have.ready || now.ready, serving: have.serving || now.serving}
		}
	}
	for at, e := range best {
		f.add(at.family, e)
	}
}

func (f *families) add(family discoveryv1.AddressType, e endpoint) {
	var c *endpoints
	switch family {
	case discoveryv1.AddressTypeIPv4:
		c = &f[0]
	case discoveryv1.AddressTypeIPv6:
		c = &f[1]
	default:
		return
	}
	c.all++
	switch {
	case e.ready:
		c.ready++
	case e.serving:
		c.serving++
	}
	if !e.here {
		return
	}
	c.here++
	switch {
	case e.ready:
		c.readyHere++
	case e.serving:
		c.servingHere++
	}
}
