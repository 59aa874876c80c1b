package kube

import (
	"fmt"
	"net/netip"
	"strings"

	"onlink/integration/labtest"
)

// policyCase is a set of policies, and which probes they allow.
type policyCase struct {
	name     string
	policies string
	allowed  func(probe) bool
}

// policy writes a NetworkPolicy of the namespace shop: which pods it selects, and its
// rules.
func policy(name, pods, rules string) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: shop}
spec: {podSelector: %s, %s}
`, name, pods, rules)
}

// blocks writes peers of addresses, as hosts.
func blocks(addrs ...netip.Addr) string {
	var peers []string
	for _, a := range addrs {
		peers = append(peers, fmt.Sprintf("{ipBlock: {cidr: '%s'}}", netip.PrefixFrom(a, a.BitLen())))
	}
	return strings.Join(peers, ", ")
}

// The selectors of the policies.
const (
	webPods    = "{matchLabels: {app: web}}"
	friendPods = "{matchLabels: {role: friend}}"
	everyPod   = "{}"
)

// cases are the policies that are tried. Those for ingress select the pod web, those for
// egress the friends; what they do not select they must leave alone.
func (b *policyBed) cases() []policyCase {
	ingress := func(ok func(probe) bool) func(probe) bool {
		return func(p probe) bool { return p.target != web || fromOwnNode(p) || ok(p) }
	}
	egress := func(ok func(probe) bool) func(probe) bool {
		return func(p probe) bool { return p.role != "friend" || ok(p) }
	}
	friend := b.pods["friend"][otherRack]
	in := func(rules string) string { return policy("in", webPods, "policyTypes: [Ingress], ingress: "+rules) }
	out := func(rules string) string {
		return policy("out", friendPods, "policyTypes: [Egress], egress: "+rules)
	}
	tor, racks := b.lab.ToRs()[0], "10.57.0.0/16"
	return []policyCase{
		{"none", "", all},
		{"ingress denied", denyWeb, onlyOwnNode},
		{"and removed", "", all},
		{"ingress denied to every pod", policy("all", everyPod, "policyTypes: [Ingress]"), onlyOwnNode},
		{"ingress from a namespace", in("[{from: [{namespaceSelector: {matchLabels: {team: office}}}]}]"), ingress(func(p probe) bool { return p.role == "clerk" })},
		{"ingress from pods", friendsToWeb, onlyFriends},
		{
			"ingress from pods of a namespace",
			in("[{from: [{namespaceSelector: {matchLabels: {team: office}}, podSelector: {matchLabels: {role: friend}}}]}]"),
			ingress(func(p probe) bool { return p.role == "clerk" }),
		},
		{
			"ingress from addresses", in("[{from: [" + blocks(friend.Addrs...) + "]}]"),
			ingress(func(p probe) bool { return p.role == "friend" && p.place == otherRack }),
		},
		{
			"ingress from nodes", in("[{from: [{ipBlock: {cidr: " + racks + ", except: [10.57.2.0/24]}}, {ipBlock: {cidr: 'fd57:2::/64'}}]}]"),
			ingress(func(p probe) bool { return p.role == host && (p.place == otherRack) == p.to.Is6() }),
		},
		{
			"ingress to ports", in("[{ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 53}]}]"),
			ingress(func(p probe) bool { return p.port == "tcp/80" || p.port == "udp/53" }),
		},
		{
			"ingress to a named port and a range", in("[{ports: [{protocol: TCP, port: http}, {protocol: UDP, port: 54, endPort: 60}]}]"),
			ingress(func(p probe) bool { return p.port == "tcp/80" || p.port == "udp/54" }),
		},
		{
			"ingress from pods to a port", in("[{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{protocol: TCP, port: 81}]}]"),
			ingress(func(p probe) bool { return p.role == "friend" && p.port == "tcp/81" }),
		},
		{
			"two policies add up", friendsToWeb + "---\n" + in("[{ports: [{protocol: UDP, port: 53}]}]"),
			func(p probe) bool { return onlyFriends(p) || p.port == "udp/53" },
		},
		{"egress denied", policy("out", friendPods, "policyTypes: [Egress]"), egress(func(probe) bool { return false })},
		{"and removed", "", all},
		{
			"egress to pods and a port", out("[{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{protocol: TCP, port: 80}]}]"),
			egress(func(p probe) bool { return p.target == web && p.port == "tcp/80" }),
		},
		{
			"egress to a port of UDP", out("[{ports: [{protocol: UDP, port: 53}]}]"),
			egress(func(p probe) bool { return p.port == "udp/53" }),
		},
		{
			"egress to addresses", out("[{to: [" + blocks(labtest.AddrOf(b.web, false), tor.Addr6) + "]}]"),
			egress(func(p probe) bool {
				return p.target == web && !p.to.Is6() || p.target == ownToR && p.to.Is6() && p.place != otherRack
			}),
		},
		{
			"egress to racks", out("[{to: [{ipBlock: {cidr: " + racks + ", except: [" + tor.Addr.String() + "/32]}}]}]"),
			egress(func(p probe) bool {
				return !p.to.Is6() && (p.target == ownNode || p.target == ownToR && p.place == otherRack)
			}),
		},
		{
			"egress and ingress", out("[{to: [{podSelector: {}}]}]") + "---\n" + in("[{ports: [{protocol: TCP, port: 80}]}]"),
			func(p probe) bool {
				if p.role == "friend" {
					return p.target == web && p.port == "tcp/80"
				}
				return p.target != web || fromOwnNode(p) || p.port == "tcp/80"
			},
		},
		{"and all removed", "", all},
	}
}
