package render

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"onlink/internal/scenario"
	"onlink/kube/api/v1alpha1"
)

// TestScenarios runs testdata/*.txtar; see [scenario.Run], and world.do for the
// commands.
func TestScenarios(t *testing.T) {
	scenario.Run(t, func(t *testing.T) func(string) []string { return newWorld(t).do })
}

// world is a cluster, as one node sees it.
type world struct {
	t       *testing.T
	in      Input
	nodes   map[string]*corev1.Node
	secrets map[v1alpha1.SecretKey]string
	age     int // of the next object, in seconds after the first
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, nodes: map[string]*corev1.Node{}, secrets: map[v1alpha1.SecretKey]string{}}
	w.in.Broken = map[Object]string{}
	w.in.Password = func(k v1alpha1.SecretKey) ([]byte, error) {
		if s, ok := w.secrets[k]; ok {
			return []byte(s), nil
		}
		return nil, errors.New("not found")
	}
	w.do("OnlinkConfig default {}")
	return w
}

// do runs one command. An object is younger than those before it; a second one of
// its name replaces the first and keeps its age.
//
//	nodes FROM TO                              as many others: nFROM, 10.58.0.FROM ...
//	self|node NAME ADDR... [label K=V]... [podCIDR P]...   this node, or another one
//	OnlinkConfig|IPPool|BGPPeer|BGPFilter|ServiceAdvertisement NAME {SPEC}
//	Namespace NAME {METADATA}
//	Service NAMESPACE/NAME {SPEC} [{STATUS}] [{METADATA}]
//	endpoints NAMESPACE/SERVICE [ADDR@NODE[=notready|serving|gone]]...
//	delete KIND NAME
//	secret NAME KEY TEXT
//	broken KIND NAME REASON                    by the agent's dry run
//	draining true|false
//	heard ADDR...                              the peers whose sessions are up
//	forwards [kube-proxy] NAMESPACE/SERVICE... kube-proxy is healthy, and forwards to endpoints here of these alone
//	in-force                                   the agent takes what is rendered
//	current TEXT                               the file in force, as a person wrote it
//	kept [KEY]                                 the file while a removal is held
//	file [KEY] | announcements | services | reasons | rejected | problems | namespaces | sources | keys | needs | vanished | isolated | lingers
func (w *world) do(line string) []string {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "self", "node":
		w.node(kind == "self", strings.Fields(rest))
	case "nodes":
		var from, to int
		if _, err := fmt.Sscan(rest, &from, &to); err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		for i := from; i <= to; i++ {
			w.node(false, []string{fmt.Sprintf("n%d", i), fmt.Sprintf("10.58.0.%d", i)})
		}
	case "endpoints":
		w.endpoints(strings.Fields(rest))
	case "delete":
		w.delete(strings.Fields(rest))
	case "secret":
		f := strings.Fields(rest)
		w.secrets[v1alpha1.SecretKey{Name: f[0], Key: f[1]}] = strings.Join(f[2:], " ")
	case "broken":
		f := strings.SplitN(rest, " ", 3)
		w.in.Broken[Object{f[0], f[1]}] = f[2]
	case "current":
		w.in.Current = []byte(rest)
	case "forwards":
		names := strings.Fields(rest)
		w.in.Forwards = func(_ netip.Addr, s *corev1.Service) bool {
			if s.Spec.HealthCheckNodePort == 0 {
				return slices.Contains(names, "kube-proxy")
			}
			return slices.Contains(names, s.Namespace+"/"+s.Name)
		}
	case "heard":
		w.in.Heard = map[netip.Addr]bool{}
		for a := range strings.FieldsSeq(rest) {
			w.in.Heard[netip.MustParseAddr(a)] = true
		}
	case "draining":
		w.in.Draining = rest == "true"
	case "file", "kept", "announcements", "services", "reasons", "rejected", "problems", "namespaces", "sources", "keys", "needs", "vanished", "isolated", "lingers", "in-force":
		return w.show(kind, rest)
	default:
		name, text, _ := strings.Cut(rest, " ")
		w.object(kind, name, text)
	}
	return nil
}

// meta returns the metadata of a new object.
func (w *world) meta(name string) metav1.ObjectMeta {
	w.age++
	return metav1.ObjectMeta{Name: name, Generation: 1, CreationTimestamp: metav1.NewTime(time.Unix(int64(1_700_000_000+w.age), 0))}
}

// parse reads a flow mapping, and returns the text behind it.
func (w *world) parse(text string, dst any) (rest string) {
	w.t.Helper()
	depth, end := 0, 0
	for i, c := range text {
		switch c {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 && c == '}' {
			end = i + 1
			break
		}
	}
	if err := yaml.UnmarshalStrict([]byte(text[:end]), dst); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return strings.TrimSpace(text[end:])
}

func (w *world) object(kind, name, text string) {
	w.t.Helper()
	switch kind {
	case kindConfig:
		w.in.Config = &v1alpha1.OnlinkConfig{ObjectMeta: w.meta(name)}
		w.parse(text, &w.in.Config.Spec)
	case kindPool:
		o := &v1alpha1.IPPool{ObjectMeta: w.meta(name)}
		w.parse(text, &o.Spec)
		put(&w.in.Pools, o, &o.ObjectMeta, poolMeta)
	case kindPeer:
		o := &v1alpha1.BGPPeer{ObjectMeta: w.meta(name)}
		w.parse(text, &o.Spec)
		put(&w.in.Peers, o, &o.ObjectMeta, peerMeta)
	case kindFilter:
		o := &v1alpha1.BGPFilter{ObjectMeta: w.meta(name)}
		w.parse(text, &o.Spec)
		put(&w.in.Filters, o, &o.ObjectMeta, filterMeta)
	case kindAdvertisement:
		o := &v1alpha1.ServiceAdvertisement{ObjectMeta: w.meta(name)}
		w.parse(text, &o.Spec)
		put(&w.in.Advertisements, o, &o.ObjectMeta, advertisementMeta)
	case "Namespace":
		o := &metav1.PartialObjectMetadata{ObjectMeta: w.meta(name)}
		w.parse(text, &o.ObjectMeta)
		put(&w.in.Namespaces, o, &o.ObjectMeta, func(o *metav1.PartialObjectMetadata) *metav1.ObjectMeta { return &o.ObjectMeta })
	case "Service":
		o := &corev1.Service{ObjectMeta: w.meta("")}
		o.Namespace, o.Name, _ = strings.Cut(name, "/")
		text = w.parse(text, &o.Spec)
		if text != "" {
			text = w.parse(text, &o.Status)
		}
		if text != "" {
			w.parse(text, &o.ObjectMeta)
		}
		put(&w.in.Services, o, &o.ObjectMeta, serviceMeta)
	default:
		w.t.Fatalf("unknown command %q", kind)
	}
}

// put adds an object, or replaces that of its name, which has its age.
func put[T any](list *[]T, o T, meta *metav1.ObjectMeta, of func(T) *metav1.ObjectMeta) {
	for i, old := range *list {
		if m := of(old); m.Name == meta.Name && m.Namespace == meta.Namespace {
			meta.CreationTimestamp = m.CreationTimestamp
			meta.Generation = m.Generation + 1
			(*list)[i] = o
			return
		}
	}
	*list = append(*list, o)
}

func (w *world) node(self bool, f []string) {
	n := &corev1.Node{ObjectMeta: w.meta(f[0])}
	if old := w.nodes[n.Name]; old != nil {
		n.CreationTimestamp = old.CreationTimestamp
	}
	n.Labels = map[string]string{}
	for f = f[1:]; len(f) > 0; f = f[1:] {
		switch f[0] {
		case "label":
			k, v, _ := strings.Cut(f[1], "=")
			n.Labels[k] = v
			f = f[1:]
		case "podCIDR":
			n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, f[1])
			f = f[1:]
		default:
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: f[0]})
		}
	}
	w.unlabelled(n.Name, n)
	w.nodes[n.Name] = n
	if self {
		w.in.Node = n
	}
}

// unlabelled notes that a Node is no reflector any more.
func (w *world) unlabelled(name string, now *corev1.Node) {
	if old := w.nodes[name]; old != nil && IsReflector(old) && (now == nil || !IsReflector(now)) {
		w.in.Former = append(w.in.Former, name)
	}
}

func (w *world) endpoints(f []string) {
	namespace, name, _ := strings.Cut(f[0], "/")
	w.in.Slices = slices.DeleteFunc(w.in.Slices, func(s *discoveryv1.EndpointSlice) bool {
		return s.Namespace == namespace && s.Labels[discoveryv1.LabelServiceName] == name
	})
	families := map[discoveryv1.AddressType]*discoveryv1.EndpointSlice{}
	for _, text := range f[1:] {
		text, state, _ := strings.Cut(text, "=")
		addr, node, _ := strings.Cut(text, "@")
		family := discoveryv1.AddressTypeIPv4
		if strings.Contains(addr, ":") {
			family = discoveryv1.AddressTypeIPv6
		}
		e := discoveryv1.Endpoint{Addresses: []string{addr}}
		if node != "" {
			e.NodeName = &node
		}
		e.Conditions = discoveryv1.EndpointConditions{Ready: new(state == ""), Serving: new(state == "" || state == "serving"), Terminating: new(state == "serving" || state == "gone")}
		s := families[family]
		if s == nil {
			s = &discoveryv1.EndpointSlice{ObjectMeta: w.meta(name + "-" + string(family)), AddressType: family}
			s.Namespace, s.Labels = namespace, map[string]string{discoveryv1.LabelServiceName: name}
			families[family] = s
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	for _, k := range slices.Sorted(maps.Keys(families)) {
		w.in.Slices = append(w.in.Slices, families[k])
	}
}

func (w *world) delete(f []string) {
	remove := func(m *metav1.ObjectMeta) bool { return m.Name == f[1] || m.Namespace+"/"+m.Name == f[1] }
	switch f[0] {
	case kindConfig:
		w.in.Config = nil
	case kindPool:
		w.in.Pools = slices.DeleteFunc(w.in.Pools, func(o *v1alpha1.IPPool) bool { return remove(&o.ObjectMeta) })
	case kindPeer:
		w.in.Peers = slices.DeleteFunc(w.in.Peers, func(o *v1alpha1.BGPPeer) bool { return remove(&o.ObjectMeta) })
	case kindFilter:
		w.in.Filters = slices.DeleteFunc(w.in.Filters, func(o *v1alpha1.BGPFilter) bool { return remove(&o.ObjectMeta) })
	case kindAdvertisement:
		w.in.Advertisements = slices.DeleteFunc(w.in.Advertisements, func(o *v1alpha1.ServiceAdvertisement) bool { return remove(&o.ObjectMeta) })
	case "Service":
		w.in.Services = slices.DeleteFunc(w.in.Services, func(o *corev1.Service) bool { return remove(&o.ObjectMeta) })
	case "Node":
		w.unlabelled(f[1], nil)
		delete(w.nodes, f[1])
	case "Secret":
		maps.DeleteFunc(w.secrets, func(k v1alpha1.SecretKey, _ string) bool { return k.Name == f[1] })
	case "broken":
		clear(w.in.Broken)
	default:
		w.t.Fatalf("cannot delete a %s", f[0])
	}
}

// render renders, in what a node watches: the reflectors, and all Nodes where it
// must.
func (w *world) render() (*Output, error) {
	w.in.Nodes, w.in.Reflectors, w.in.Crowded = nil, nil, false
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		w.in.Nodes = append(w.in.Nodes, w.nodes[name])
		if IsReflector(w.nodes[name]) {
			w.in.Reflectors = append(w.in.Reflectors, w.nodes[name])
		}
	}
	out, err := Render(&w.in)
	if err == nil && out.Crowded {
		w.in.Crowded = true
		out, err = Render(&w.in)
	}
	if err == nil && !out.NeedsAllNodes {
		w.in.Nodes = nil
		out, err = Render(&w.in)
	}
	if err == nil && !out.NeedsHeard && len(w.in.Heard) > 0 {
		heard := w.in.Heard
		w.in.Heard = nil
		out, err = Render(&w.in)
		w.in.Heard = heard
	}
	if err == nil {
		mustAccept(w.t, out)
	}
	return out, err
}

func (w *world) show(what, key string) []string {
	out, err := w.render()
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	switch what {
	case "in-force":
		w.in.Current, w.in.Announced = out.Config, out.Announcements
		return nil
	case "file":
		return topLevel(string(out.Config), key)
	case "kept":
		return topLevel(string(out.Kept), key)
	case "announcements":
		return lines(out.Announcements, Announcement.text)
	case "services":
		return lines(out.Services, func(s v1alpha1.NodeService) string {
			return fmt.Sprintf("%s %s %s | %s", s.Address, s.Service, s.State, s.Why)
		})
	case "reasons":
		return lines(slices.SortedFunc(maps.Keys(out.Reasons), netip.Addr.Compare), func(a netip.Addr) string {
			return a.String() + " " + []string{"elsewhere", "node", "service"}[out.Reasons[a]]
		})
	case "rejected":
		return lines(out.Rejected, func(r v1alpha1.RejectedObject) string {
			return fmt.Sprintf("%s %s @%d | %s", r.Kind, r.Name, r.Generation, r.Reason)
		})
	case "problems":
		return lines(out.Problems, func(s string) string { return s })
	case "namespaces":
		return lines(keys(out.Namespaces), func(n string) string { return n + ": " + strings.Join(out.Namespaces[n], ", ") })
	case "sources":
		return lines(keys(out.Sources), func(f string) string { return fmt.Sprintf("%s: %s %s", f, out.Sources[f].Kind, out.Sources[f].Name) })
	case "lingers":
		return []string{fmt.Sprintf("lingers %t, silent %t", out.Lingers, out.Silent)}
	case "vanished":
		return lines(out.Vanished, func(kind string) string { return kind })
	case "isolated":
		return []string{strconv.FormatBool(out.Isolated)}
	case "keys":
		return lines(keys(out.Keys), func(n string) string { return n + ": " + string(out.Keys[n]) })
	}
	return []string{fmt.Sprintf("services %t, all nodes %t", out.NeedsServices, out.NeedsAllNodes)}
}

// topLevel returns a section of the file, or all of it.
func topLevel(text, key string) (out []string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, " ") {
			inside = key == "" || strings.HasPrefix(line, key+":")
		}
		if inside {
			out = append(out, line)
		}
	}
	return lines(out, func(s string) string { return s })
}

// lines returns the texts of a list, or one word for an empty one.
func lines[T any](list []T, text func(T) string) []string {
	if len(list) == 0 {
		return []string{"none"}
	}
	var out []string
	for _, one := range list {
		out = append(out, text(one))
	}
	return out
}

// text returns an announcement in one line.
func (a Announcement) text() string {
	s := a.Prefix
	if a.GracefulShutdown {
		s += " graceful-shutdown"
	}
	if a.LocalPref != nil {
		s += fmt.Sprintf(" pref %d", *a.LocalPref)
	}
	if a.MED != nil {
		s += fmt.Sprintf(" med %d", *a.MED)
	}
	if len(a.Communities) > 0 {
		s += " " + strings.Join(a.Communities, " ")
	}
	if len(a.Peers) > 0 {
		s += " to " + strings.Join(a.Peers, ", ")
	}
	return s + " | " + a.Reason
}
